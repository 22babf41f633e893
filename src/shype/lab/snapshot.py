"""Saved machines: memory and disk, from which new labs start in less than a second.

A saved machine is a directory with ``memory`` (QEMU's migration stream),
``disk.qcow2`` (what differs from dom0's image) and ``machine.json``; of one that booted
from its own disk also that, and its firmware's and TPM's memory.  It is never written again,
so any number of labs can start from it at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from shype.base import canonical, files
from shype.base.errors import BadInput
from shype.lab import paths, qemu, tpm

#: Snapshots kept by `prune`, the most recently used (150 to 200 MB each).
KEEP = 8
#: Part of every key: a change of the device list makes old snapshots useless.
LAYOUT = 1


def key(machine: qemu.Machine) -> str:
    """What a snapshot of ``machine`` just after boot depends on.

    The payload is not part: dom0 reads it after the restore.  All files of the
    machine have names that stand for their content.
    """
    parts = asdict(machine)
    if not machine.boot:
        del parts["boot"]
    value = {**parts, "qemu": qemu.version(), "layout": LAYOUT,
             "command": machine.command(incoming=None)}
    return canonical.digest(canonical.dumps(value))[:24]


def module(data: bytes) -> Path:
    """A file with the policy module ``data``, named by its content like everything in a key."""
    path = paths.home() / "modules" / hashlib.sha256(data).hexdigest()[:32]
    if not path.is_file() or path.read_bytes() != data:
        files.write_atomic(path, data)
    return path


def place(machine: qemu.Machine) -> Path:
    """Where the snapshot of ``machine`` is or would be."""
    return paths.snapshots() / key(machine)


def use(directory: Path) -> bool:
    """Whether a saved machine is there; marks it as used."""
    if not (directory / "machine.json").is_file():
        return False
    with contextlib.suppress(OSError):
        os.utime(directory)
    return True


def take(lab: Path, machine: qemu.Machine, into: Path) -> None:
    """Save the running machine in directory ``lab`` as ``into``; it goes on running.

    An existing ``into`` is replaced.  Raises `qemu.MonitorError`, OSError.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{into.name}.", suffix=".part", dir=into.parent))
    try:
        with qemu.Monitor(lab) as monitor:
            try:
                monitor.save(work / "memory")
                shutil.copy(lab / "disk.qcow2", work / "disk.qcow2")
                for name in machine.own:
                    qemu.copy(lab / name, work / name)
                if machine.measured:
                    shutil.copytree(lab / tpm.STATE, work / tpm.STATE)
            finally:
                monitor.command("cont")
        shutil.copy(lab / "payload.img", work / "payload.img")
        (work / "machine.json").write_bytes(dumps(machine))
        shutil.rmtree(into, ignore_errors=True)
        work.rename(into)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def lay_out(saved: Path, lab: Path, machine: qemu.Machine) -> None:
    """Put what ``machine`` needs to go on from ``saved`` into its lab's directory."""
    qemu.overlay(lab / "disk.qcow2", saved / "disk.qcow2", "qcow2")
    for name in machine.own:
        qemu.copy(saved / name, lab / name)
    if machine.measured:
        shutil.copytree(saved / tpm.STATE, lab / tpm.STATE)
        tpm.start(lab)


def machine_of(directory: Path) -> qemu.Machine:
    """The machine that was saved. Raises BadInput (``lab.no-state``)."""
    try:
        value = json.loads((directory / "machine.json").read_bytes())
        for field in ("xen_args", "dom0_args"):
            value[field] = tuple(value[field])
        machine = qemu.Machine(**value)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput("lab.no-state", f"there is no saved lab {directory.name!r}",
                       "save one first") from error
    return machine


def dumps(machine: qemu.Machine) -> bytes:
    """``machine.json`` of a machine."""
    return canonical.dumps(asdict(machine))


def prune() -> None:
    """Remove all but the `KEEP` snapshots used last, and what interrupted savings left."""
    if not paths.snapshots().is_dir():
        return
    entries = [(entry, entry.stat().st_mtime) for entry in paths.snapshots().iterdir()]
    for entry, used in entries:
        if entry.name.endswith(".part") and time.time() - used > 600:
            shutil.rmtree(entry, ignore_errors=True)
    whole = sorted((used, entry) for entry, used in entries if not entry.name.startswith("."))
    for _, entry in whole[:-KEEP]:
        shutil.rmtree(entry, ignore_errors=True)
