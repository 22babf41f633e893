"""Runs in dom0 as whoever has taken a swtpm over: its user, in its TPM's directory.

``python3 -c PROGRAM OTHER-UUID OTHER-PROCESS DEVICE-MODEL``: tries to reach what is not its own,
and prints a JSON object: of each attempt "done", or the errno. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ATTACH, DETACH = 16, 17  # PTRACE_ATTACH, PTRACE_DETACH


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def attach(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ATTACH, pid, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(DETACH, pid, 0, 0)


def opened(path: str, how: int = os.O_RDONLY) -> None:
    os.close(os.open(path, how))


def attempts(
    other: str, processes: dict[str, int]
) -> Iterator[tuple[str, Callable[..., object], object]]:
    yield "its own state", opened, "tpm2-00.permall"
    yield "another's state", opened, f"../{other}/tpm2-00.permall"
    yield "another's state by its path", os.listdir, f"/var/lib/shype/vtpm/{other}"
    yield "another's record", opened, f"../{other}.json"
    yield "the agent's state", os.listdir, "../.."
    for number in range(4):
        yield f"channel {number}", connect, f"../c{number}"
    for name, pid in processes.items():
        yield f"signal {name}", lambda pid: os.kill(pid, signal.SIGCONT), pid
        yield f"ptrace {name}", attach, pid
        for part in ("root", "cwd", "fd"):
            yield f"{part} of {name}", os.listdir, f"/proc/{pid}/{part}"
        yield f"memory of {name}", opened, f"/proc/{pid}/mem"
    for path in ("/etc/shype/policy.shype", "/proc/xen/privcmd", *map(str, (
            *Path("/dev/xen").glob("*"), *Path("/dev").glob("tpm*"), *Path("/dev").glob("mem")))):
        yield path, lambda path: opened(path, os.O_RDWR), path
    for place in ("/run/xen", "/var/run/xenstored", "/var/run/xen"):
        for sock in Path(place).glob("*"):
            yield str(sock), connect, str(sock)


def main() -> None:
    other, *pids = sys.argv[1:]
    processes = dict(zip(("the other swtpm", "the device model"), map(int, pids), strict=True))
    found = {}
    for what, attempt, where in attempts(other, processes):
        try:
            attempt(where)
            found[what] = "done"
        except OSError as error:
            found[what] = errno.errorcode.get(error.errno or 0, str(error))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
