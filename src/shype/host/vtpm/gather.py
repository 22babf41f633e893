"""In dom0, as a TPM's user: gives the TPM its guest's commands, each in one piece, one at a time.

A guest's console hands on at most 256 bytes at once (Linux, drivers/tty/hvc/hvc_xen.c), and swtpm
takes for a command whatever it has read once that is a head (swtpm 0.7, SWTPM_IO_Read). So a longer
one would be refused now and then, and its pieces would be taken for commands of their own.

``python3 gather.py GUEST TPM``: two descriptors of streams. Holds the lock `LOCK` in the working
directory as long as it serves. Standard library only, and nothing of shype.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import sys
from pathlib import Path

LOCK = ".stream"
#: Seconds within which the rest of a command comes. What comes later begins another one, so that a
#: guest whose relay was ended in the midst of a command can go on.
PATIENCE = 2.0
#: Seconds without a byte, after which nothing more of what was no command is on its way.
_QUIET = 0.2
_HEADER = struct.Struct(">HII")
_MOST = 4096
_COMMAND_SIZE = _HEADER.pack(0x8001, 10, 0x142)  # TPM_RC_COMMAND_SIZE


class Over(Exception):
    """One of the two has hung up."""


def serve(guest: socket.socket, tpm: socket.socket, patience: float = PATIENCE) -> None:
    """Until one of them hangs up."""
    with contextlib.suppress(Over, OSError):
        while True:
            command = _command(guest, tpm, patience)
            if command is None:
                guest.sendall(_COMMAND_SIZE)
                continue
            tpm.sendall(command)
            head = _exactly(tpm, _HEADER.size)
            size = _HEADER.unpack(head)[1]
            if not _HEADER.size <= size <= _MOST:
                return
            guest.sendall(head + _exactly(tpm, size - _HEADER.size))


def _command(guest: socket.socket, tpm: socket.socket, patience: float) -> bytes | None:
    """The guest's next command, None if what it has sent is none. Raises Over."""
    data = b""
    size = _HEADER.size
    while len(data) < size:
        if not _arrived(guest, tpm, patience if data else None):
            return None
        data += _part(guest, size - len(data))
        if len(data) == _HEADER.size:
            size = _HEADER.unpack(data)[1]
            if not _HEADER.size <= size <= _MOST:
                while _arrived(guest, tpm, _QUIET):
                    _part(guest, _MOST)
                return None
    return data


def _arrived(guest: socket.socket, tpm: socket.socket, seconds: float | None) -> bool:
    """Wait for something of the guest's; False if nothing came within so many seconds."""
    found = select.select([guest, tpm], [], [], seconds)[0]
    if tpm in found:  # it says nothing unasked, so it has ended
        raise Over
    return bool(found)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += _part(stream, size - len(data))
    return data


def _part(stream: socket.socket, most: int) -> bytes:
    data = stream.recv(most)
    if not data:
        raise Over
    return data


def main() -> None:
    """Take the lock, and serve."""
    with Path(LOCK).open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        guest, tpm = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
        serve(guest, tpm)
        guest.close()
        # Only the agent ends a TPM whose VM is gone: what has ended before then was lost.
        with contextlib.suppress(OSError):
            while tpm.recv(_MOST):
                pass


if __name__ == "__main__":
    main()
