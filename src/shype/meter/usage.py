"""Amounts: what a VM has used since it started to run, and sums of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class Usage:
    """Amounts that only grow. Directions are the guest's: ``sent`` is what it sent.

    ``cpu_ns``: nanoseconds that its virtual processors ran.  ``memory_bs``: byte-seconds, memory
    that it held times how long; ``seconds`` of which the hypervisor's listing was seen.  Disk
    figures are those of block backends in dom0's kernel.
    """

    cpu_ns: int = 0
    memory_bs: int = 0
    seen_ns: int = 0
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    disk_reads: int = 0
    disk_writes: int = 0
    net_received_bytes: int = 0
    net_sent_bytes: int = 0
    net_received_packets: int = 0
    net_sent_packets: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(_ROW(self), _ROW(other), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(a - b for a, b in zip(_ROW(self), _ROW(other), strict=True)))

    def covers(self, other: Usage) -> bool:
        """Whether no amount is smaller than in ``other``."""
        return all(a >= b for a, b in zip(_ROW(self), _ROW(other), strict=True))

    def row(self) -> list[int]:
        """In the order of `NAMES`."""
        return list(_ROW(self))

    @classmethod
    def of(cls, row: object) -> Usage:
        """The inverse of `row`. Raises ValueError."""
        if (not isinstance(row, Sequence) or len(row) != len(NAMES)
                or not all(type(n) is int and 0 <= n < 1 << 127 for n in row)):
            raise ValueError("no row of amounts")
        return cls(*row)

    def to_json(self) -> dict[str, int]:
        """By name."""
        return dict(zip(NAMES, self.row(), strict=True))


#: The amounts, in the order in which records have them.
NAMES = tuple(field.name for field in fields(Usage))
NOTHING = Usage()
#: Not `dataclasses.astuple`, whose deep copy was most of what a sample cost.
_ROW = attrgetter(*NAMES)


def total(amounts: Iterable[Usage]) -> Usage:
    """The sum."""
    found = NOTHING
    for amount in amounts:
        found += amount
    return found
