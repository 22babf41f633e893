"""Overwrite a disk with zeros, so that its next label need not be its last one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.resources import identity
from shype.host.resources.backend import holding
from shype.host.resources.identity import Identity, Thing
from shype.host.resources.registry import Registry, Used

_CHUNK = 4 * 1024 * 1024
#: Told how many bytes of how many are zeros.
Progress = Callable[[int, int], None]


def wipe(
    agent: Agent, path: str, *, progress: Progress = lambda done, size: None,
    lock_timeout: float = 30,
) -> int:
    """Write zeros over all of the disk at ``path`` and forget its label; its size in bytes.

    From the beginning to the end nobody may use it; killed half way, it stays refused until it
    is wiped to the end.  Raises BadInput (``disk.in-use``, ``disk.missing``, ``disk.kind``),
    Unavailable (``disk.unwritable``, ``audit.*``, ``state.unwritable``).
    """
    thing = identity.look(path)
    if thing.identity.kind == "directory":
        raise BadInput("disk.kind", f"{path} is a directory", "a disk is a file or a block device")
    key = identity.durable(thing)
    registry = Registry(agent.state)
    handle = _open(thing, path)
    try:
        with agent.lock.hold(lock_timeout):  # no VM starts between this look and the mark
            _require_unused(agent, thing)
            used = registry.read().get(key)
            agent.record(Event(
                kind="disk.wipe", result=Result.PERMITTED, object=f"disk:{thing.path}",
                object_label=used.label if used else None))
            registry.begin_wiping(key, used or Used("unknown", thing.path, "nobody"))
        size = _zero(handle, path, progress)
        # Scripts of other toolstacks hold no lock of ours; who came meanwhile has written, perhaps.
        _require_unused(agent, thing)
    finally:
        os.close(handle)
    registry.forget(key)
    agent.record(Event(kind="disk.wipe", result=Result.DONE, object=f"disk:{thing.path}",
                       details={"bytes": size}))
    return size


def _open(thing: Thing, path: str) -> int:
    """The disk for writing; a block device exclusively: Linux then refuses what is in use."""
    exclusive = os.O_EXCL if thing.identity.kind == "block" else 0
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | exclusive)
    except OSError as error:
        if error.errno == 16:  # EBUSY
            raise _in_use(thing, "the kernel: it is mounted, mapped, or a VM's disk") from error
        raise Unavailable("disk.unwritable", f"{path} cannot be written: {error.strerror}",
                          "run the command as root") from error
    if identity.of_status(os.fstat(handle)) != thing.identity:
        os.close(handle)
        raise _in_use(thing, "whoever exchanged it just now")
    return handle


def _require_unused(agent: Agent, thing: Thing) -> None:
    mine = identity.selves(thing.identity)
    for twin in identity.twins(thing.identity):  # the kernel does not know that it is the same disk
        node = identity.node_name(twin) or ""
        try:
            os.close(os.open(node, os.O_RDONLY | os.O_CLOEXEC | os.O_EXCL))
        except OSError as error:
            raise _in_use(thing, f"whatever has {node}, another path to it") from error
    for backend in agent.hypervisor.backends():
        held = holding(backend)
        if held.thing in mine:
            raise _in_use(thing, held.about)
    for device in _loops():
        if device != thing.identity and identity.behind(device) in mine:
            raise _in_use(thing, f"a loop device ({identity.node_name(device)})")
    if thing.identity.kind == "file":
        for pid in _holders(thing.identity):
            raise _in_use(thing, f"process {pid}, which has it open")


def _loops() -> Iterator[Identity]:
    for directory in sorted(Path("/sys/block").glob("loop*")):
        if (directory / "loop").exists():
            with contextlib.suppress(OSError, ValueError):
                major, _, minor = (directory / "dev").read_text().strip().partition(":")
                yield Identity("block", (int(major), int(minor)))


def _holders(wanted: Identity) -> Iterator[int]:
    """Processes that have a file open, as QEMU has an image; not this one."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if identity.of_status(link.stat()) == wanted:
                        yield int(process.name)


def _zero(handle: int, path: str, progress: Progress) -> int:
    size = os.lseek(handle, 0, os.SEEK_END)
    zeros = memoryview(bytes(_CHUNK))
    done = 0
    try:
        while done < size:
            done += os.pwrite(handle, zeros[: min(_CHUNK, size - done)], done)
            progress(done, size)
        os.fsync(handle)
    except OSError as error:
        raise Unavailable(
            "disk.unwritable", f"{path} could not be wiped beyond byte {done}: {error.strerror}",
            "it stays refused; mend the disk and wipe it again") from error
    return size


def _in_use(thing: Thing, who: str) -> BadInput:
    return BadInput("disk.in-use", f"{thing.path} is in use by {who}",
                    "stop what uses it; then wipe it")
