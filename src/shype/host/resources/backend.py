"""What the backends in dom0 really have, beside what was decided."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, ShypeError
from shype.host.hypervisor import Backend
from shype.host.resources import identity
from shype.host.resources.device import Disk, Nic
from shype.host.resources.identity import Identity
from shype.host.resources.judge import Judged

#: Backends of disks: in the kernel, and in QEMU.
DISKS = ("vbd", "qdisk")
_NET = Path("/sys/class/net")


class Exchanged(ShypeError):
    """A backend has something else than what was decided on."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a backend has: the ``thing`` of a disk, or the ``bridge`` of an interface."""

    backend: Backend
    thing: Identity | None = None
    bridge: str | None = None
    write: bool = True

    @property
    def about(self) -> str:
        """For people."""
        values = self.backend.values
        what = values.get("dev") or f"{self.backend.kind} {self.backend.number}"
        return f"{what} of domain {self.backend.domid}"


def holding(backend: Backend) -> Holding:
    """What ``backend`` has now, by the kernel's word where there is one."""
    values = backend.values
    write = values.get("mode", "w").startswith(("w", "!"))
    if backend.kind == "vbd":
        return Holding(backend, _physical(values.get("physical-device")), write=write)
    if backend.kind == "qdisk":
        return Holding(backend, _image(values.get("params", "")), write=write)
    if backend.kind == "vif":
        return Holding(backend, bridge=_bridge(interface(backend)))
    return Holding(backend)


def empty(backend: Backend) -> bool:
    """Whether it is a CD drive without a medium (``params``: nothing, or ``FORMAT:``)."""
    values = backend.values
    return (backend.kind == "qdisk" and values.get("device-type") == "cdrom"
            and not values.get("params", "").partition(":")[2])


def interface(backend: Backend) -> str:
    """The name of an interface's end in dom0."""
    return backend.values.get("vifname") or f"vif{backend.domid}.{backend.number}"


def require(found: Sequence[Backend], domid: int, judged: Sequence[Judged]) -> None:
    """Raises `Exchanged` (``device.exchanged``) unless domain ``domid`` has what was decided on.

    Only disks and interfaces in dom0 are looked at: what other devices are is in their
    configuration, which is fixed.
    """
    for backend in found:
        if backend.domid != domid or backend.kind not in (*DISKS, "vif") or empty(backend):
            continue
        for problem in _problems(holding(backend), judged):
            raise Exchanged(
                "device.exchanged", problem,
                "what a path leads to was exchanged between the decision and its use; what had "
                "been attached is taken away again",
            )


def _problems(held: Holding, judged: Sequence[Judged]) -> Iterator[str]:
    if held.backend.kind == "vif":
        bridges = {one.device.bridge for one in judged if isinstance(one.device, Nic)}
        if held.bridge not in bridges:
            yield f"{held.about} is on the bridge {held.bridge or '(none)'}, not on " + " or ".join(
                sorted(bridges) or ["any"])
        return
    disks = [one for one in judged if isinstance(one.device, Disk)]
    fitting = [one for one in disks if held.thing in one.things]
    if held.thing is None or not fitting:
        yield (f"{held.about} has {held.thing or 'nothing'}, which nobody decided on "
               f"({held.backend.values.get('params', '?')})")
    elif held.write and not any(one.device.write for one in fitting
                                if isinstance(one.device, Disk)):
        yield f"{held.about} may be written, and was decided on as read-only"


def _physical(text: str | None) -> Identity | None:
    """``physical-device``: ``MAJOR:MINOR``, hexadecimal."""
    with contextlib.suppress(ValueError, BadInput):
        major, _, minor = (text or "").partition(":")
        return identity.behind(Identity("block", (int(major, 16), int(minor, 16))))
    return None


def _image(params: str) -> Identity | None:
    """``params`` of a disk that QEMU serves: ``FORMAT:PATH``."""
    with contextlib.suppress(BadInput):
        return identity.behind(identity.look(params.partition(":")[2]).identity)
    return None


def _bridge(interface: str) -> str | None:
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(_NET / interface / "brport" / "bridge"))  # noqa: PTH115, PTH119
    return None
