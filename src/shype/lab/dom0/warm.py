"""Runs Python commands in dom0 in forks of one interpreter that has imported shype already.

Under emulation nine tenths of a short command is Python's start and its imports. The commands
themselves are the real ones, each in a process of its own, with its own descriptors.

``python3 -m shype.lab.dom0.warm SOCKET [MODULE...]`` imports the modules, and what commands use.
A client connects, sends ``{"program": ..., "argv": ..., "cwd": ..., "env": ...}`` (the last two may
be left out) with three descriptors (standard input, output, error), and reads two lines: the
process id and, when the command has ended, its exit code (negative: the signal that killed it). A
program is a module with a function ``main`` that takes the arguments and returns an exit code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

#: Imported with all their modules; what cannot be imported in dom0 is left out.
PACKAGES = ("shype.host", "shype.host.audit", "shype.host.drivers.xen", "shype.host.resources",
            "shype.host.store", "shype.host.update", "shype.decision", "shype.policy")
#: Of the command line, what tests use most.
GROUPS = ("host", "denials", "apply", "devices", "disk", "store", "audit", "manager")
#: Imported as well on a machine with a TPM: its library takes longer than all the rest.
TPM, MEASURED = Path("/dev/tpmrm0"), ("shype.attest.tpm", "shype.attest.measuring",
                                      "shype.attest.peer", "shype.attest.renewal",
                                      "shype.cli.attest", "shype.cli.meter")


def preload(modules: Sequence[str]) -> None:
    """Import what commands in dom0 need."""
    names = [*modules, "encodings.ascii"]
    for package in PACKAGES:
        found = importlib.import_module(package).__path__
        names += [f"{package}.{info.name}" for info in pkgutil.iter_modules(found)]
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for name in modules:
        prepare = getattr(sys.modules.get(name), "prepare", None)
        if prepare is not None:
            prepare(*GROUPS)


def serve(listener: socket.socket) -> NoReturn:
    """Fork a process per client, for ever, and tell each how its own ended."""
    gc.freeze()
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is listener:
                    handle, command = _started(listener)
                    ready.register(handle, selectors.EVENT_READ, command)
                else:
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _ended(key.data)


def _started(listener: socket.socket) -> tuple[int, tuple[int, socket.socket]]:
    """A descriptor that becomes readable when the next client's command ends; the command."""
    link, _ = listener.accept()
    data, handles, _, _ = socket.recv_fds(link, 1 << 20, 3)
    pid = os.fork()
    if pid == 0:
        try:
            _command(json.loads(data), handles, link, listener)
        finally:
            os._exit(3)
    for handle in handles:
        os.close(handle)
    link.sendall(b"%d\n" % pid)
    return os.pidfd_open(pid), (pid, link)


def _ended(command: tuple[int, socket.socket]) -> None:
    pid, link = command
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError), link:  # nobody may wait for it any more
        link.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _command(
    request: dict[str, Any], handles: Sequence[int], *inherited: socket.socket,
) -> NoReturn:
    os.setsid()
    for each in inherited:
        each.close()
    for standard, handle in enumerate(handles):
        os.dup2(handle, standard)
        os.close(handle)
    code = 3
    try:
        program = importlib.import_module(request["program"])
        if request.get("cwd") is not None:
            os.chdir(request["cwd"])
        os.environ.update(request.get("env", {}))
        sys.argv = list(request["argv"])
        code = program.main(request["argv"][1:])
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
    preload([*argv[1:], *(MEASURED if TPM.exists() else ())])
    place = Path(argv[0])
    early = place.with_name(f"{place.name}.new")
    early.unlink(missing_ok=True)
    listener.bind(str(early))
    early.chmod(0o600)
    listener.listen(64)
    early.rename(place)  # whoever sees it can connect
    serve(listener)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
