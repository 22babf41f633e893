"""In a guest: makes a /dev/tpm of the console behind which dom0 serves the VM's TPM.

This file alone is enough (`python3 relay.py`), with Linux and its module tpm_vtpm_proxy, which
gives a program that serves a TPM a file: commands are read from it, responses written to it
(Linux, Documentation/security/tpm/tpm_vtpm_proxy.rst, include/uapi/linux/vtpm_proxy.h).
Standard library only, and nothing of shype.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path

#: The console's name, as `shype.host.drivers.config` gives it.
NAME = "org.shype.tpm"
#: Seconds for a response; generating an RSA key takes longest, under emulation up to a minute.
PATIENCE = 180.0
#: Seconds without a byte after which nothing of an earlier conversation is still on its way.
_QUIET = 0.2
_NEW_DEVICE = 0xC014A100  # _IOWR(0xa1, 0, struct vtpm_proxy_new_dev)
_TPM2 = 1  # VTPM_PROXY_FLAG_TPM2
_SET_LOCALITY = 0x20001000  # the driver's own command, for the program that serves
_HEADER = struct.Struct(">HII")
_MOST = 4096
_SUCCESS, _FAILURE = 0, 0x101  # TPM_RC_FAILURE
_READ = 2  # XS_READ


class Gone(Exception):
    """Nobody answers at the other end."""


def main() -> int:
    """Serve until the kernel gives the device up. Prints the device's name."""
    console = find_console()
    line = os.open(console, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(line)
    silence(line)
    device, number = new_device()
    sys.stdout.write(f"/dev/tpm{number} by {console}\n")
    sys.stdout.flush()
    serve(device, lambda command: exchange(line, command))
    return 0


def serve(device: int, ask: Callable[[bytes], bytes]) -> None:
    """Answer the kernel's commands by ``ask``; after a `Gone`, all of them with a failure.

    A response that comes too late would be taken for the next one's.
    """
    gone = False
    while True:
        try:
            command = os.read(device, _MOST)
        except OSError:
            return
        if len(command) < _HEADER.size:
            return
        if _HEADER.unpack_from(command)[2] == _SET_LOCALITY:
            answer = plain(_SUCCESS)
        elif gone:
            answer = plain(_FAILURE)
        else:
            try:
                answer = ask(command)
            except (Gone, OSError) as error:
                sys.stderr.write(f"the host serves this TPM no more: {error}\n")
                gone, answer = True, plain(_FAILURE)
        with contextlib.suppress(OSError):  # the kernel does not wait for it any more
            os.write(device, answer)


def plain(code: int) -> bytes:
    """A response without parameters."""
    return _HEADER.pack(0x8001, _HEADER.size, code)


def exchange(line: int, command: bytes, patience: float = PATIENCE) -> bytes:
    """The TPM's response. Raises Gone after ``patience`` seconds, or if it is none."""
    deadline = time.monotonic() + patience
    left = command
    while left:
        if not select.select([], [line], [], max(0.0, deadline - time.monotonic()))[1]:
            raise Gone("it takes nothing")
        left = left[os.write(line, left):]
    answer = b""
    size = _HEADER.size
    while len(answer) < size:
        if not select.select([line], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Gone("it does not answer")
        part = os.read(line, size - len(answer))
        if not part:
            raise Gone("it has hung up")
        answer += part
        if len(answer) == _HEADER.size:
            size = _HEADER.unpack(answer)[1]
            if not _HEADER.size <= size <= _MOST:
                raise Gone("what it answers is no response of a TPM")
    return answer


def silence(line: int) -> None:
    """Throw away what an earlier relay has asked and not heard."""
    termios.tcflush(line, termios.TCIFLUSH)
    while select.select([line], [], [], _QUIET)[0] and os.read(line, _MOST):
        pass


def new_device(control: str = "/dev/vtpmx") -> tuple[int, int]:
    """The file by which a new TPM device is served, and that device's number."""
    handle = os.open(control, os.O_RDWR | os.O_CLOEXEC)
    try:
        about = bytearray(struct.pack("=IIIII", _TPM2, 0, 0, 0, 0))
        fcntl.ioctl(handle, _NEW_DEVICE, about)
    finally:
        os.close(handle)
    _, number, device, _, _ = struct.unpack("=IIIII", about)
    os.set_inheritable(device, False)
    return device, number


def find_console(seconds: float = 30.0) -> str:
    """The console that is named `NAME` in XenStore, as soon as it is there.

    hvc0 is the guest's own; the others follow in the order of their numbers in XenStore.
    Raises Gone.
    """
    deadline = time.monotonic() + seconds
    while True:
        numbers = sorted(int(path.name.rpartition("-")[2])
                         for path in Path("/sys/bus/xen/devices").glob("console-*"))
        for place, number in enumerate(numbers, 1):
            if store_read(f"device/console/{number}/name") == NAME:
                path = f"/dev/hvc{place}"
                with contextlib.suppress(OSError):  # ENODEV until it is connected
                    os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
                    return path
        if time.monotonic() > deadline:
            raise Gone(f"this VM has no console named {NAME}: has its label `vtpm: true`?")
        time.sleep(0.5)


def store_read(path: str, device: str = "/dev/xen/xenbus") -> str | None:
    """A value in XenStore, None if there is none (xen/include/public/io/xs_wire.h)."""
    handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        data = path.encode() + b"\0"
        os.write(handle, struct.pack("=IIII", _READ, 0, 0, len(data)) + data)
        head = b""
        while len(head) < 16:
            head += os.read(handle, 16 - len(head))
        kind, _, _, size = struct.unpack("=IIII", head)
        body = b""
        while len(body) < size:
            body += os.read(handle, size - len(body))
    finally:
        os.close(handle)
    return body.decode(errors="replace") if kind == _READ else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Gone, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(3)
