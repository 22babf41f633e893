"""What the meter reads: counters as the hypervisor and dom0's backends have them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from shype.host.journal import boot_id


class Kind(StrEnum):
    """What a device's counters count."""

    DISK = "disk"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one device since it was attached, as the guest sees it: in is read or received."""

    kind: Kind
    bytes_in: int = 0
    bytes_out: int = 0
    operations_in: int = 0
    operations_out: int = 0

    def row(self) -> tuple[int, int, int, int]:
        """The four numbers."""
        return (self.bytes_in, self.bytes_out, self.operations_in, self.operations_out)


@dataclass(frozen=True, slots=True)
class Reading:
    """One domain now. ``devices`` by a name that no later device of this boot has again.

    ``stopped``: it runs no more, so these are its last figures.  ``blind``: backends of it of
    which dom0's kernel has no figures (a disk that QEMU serves).
    """

    domid: int
    uuid: str
    context: str
    cpu_ns: int
    memory: int  # bytes
    stopped: bool = False
    devices: Mapping[str, Counters] = field(default_factory=dict)
    blind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """When. ``uptime``: nanoseconds since dom0's boot ``boot``, sleep included, which nobody can
    set; ``wall``: since 1970, as the host's clock has it."""

    boot: str
    uptime: int
    wall: int

    @classmethod
    def now(cls) -> Moment:
        """Now, on this host."""
        return cls(boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


@dataclass(frozen=True, slots=True)
class Sight:
    """All domains at one moment, by domid."""

    moment: Moment
    domains: tuple[Reading, ...]


class Source(Protocol):
    """Reads. Both raise `shype.base.errors.Unavailable` if they cannot."""

    def look(self) -> Sight:
        """Everything now."""

    def name(self, domid: int) -> str:
        """How a domain is called; asked once for each."""
