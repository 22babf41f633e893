"""Runs shype commands in dom0 in forks of one interpreter that has imported shype already.

Under emulation nine tenths of a short command is Python's start and its imports. The commands
themselves are the real ones, each in a process of its own, with its own descriptors.

``python3 -m shype.lab.dom0.warm SOCKET PROGRAM [MODULE...]``: PROGRAM has a function ``main``
that takes the arguments and returns an exit code; the further modules are imported as well.
A client connects, sends ``{"argv": ..., "cwd": ...}`` with three descriptors (standard input,
output, error), and reads two lines: the process id and, when the command has ended, its exit
code (negative: the signal that killed it).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

Program: TypeAlias = Callable[[Sequence[str]], int]

#: Imported with all their modules; what cannot be imported in dom0 is left out.
PACKAGES = ("shype.host", "shype.host.audit", "shype.host.drivers.xen", "shype.decision",
            "shype.policy")


def preload(modules: Sequence[str]) -> None:
    """Import what commands in dom0 need."""
    names = list(modules)
    for package in PACKAGES:
        found = importlib.import_module(package).__path__
        names += [f"{package}.{info.name}" for info in pkgutil.iter_modules(found)]
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def serve(listener: socket.socket, program: Program) -> NoReturn:
    """Fork a supervisor per client, for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _supervise(link, program)
            finally:
                os._exit(0)
        link.close()


def _supervise(link: socket.socket, program: Program) -> None:
    data, handles, _, _ = socket.recv_fds(link, 1 << 20, 3)
    request = json.loads(data)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        link.close()
        for standard, handle in enumerate(handles):
            os.dup2(handle, standard)
            os.close(handle)
        _command(program, request["argv"], request.get("cwd"))
    for handle in handles:
        os.close(handle)
    link.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    link.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _command(program: Program, argv: Sequence[str], cwd: str | None) -> NoReturn:
    code = 3
    try:
        if cwd is not None:
            os.chdir(cwd)
        sys.argv = list(argv)
        code = program(argv[1:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Listen on the socket of the first argument."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    preload(argv[1:])
    place = Path(argv[0])
    early = place.with_name(f"{place.name}.new")
    early.unlink(missing_ok=True)
    listener.bind(str(early))
    early.chmod(0o600)
    listener.listen(64)
    early.rename(place)  # whoever sees it can connect
    serve(listener, importlib.import_module(argv[1]).main)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
