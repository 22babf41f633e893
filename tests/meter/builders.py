"""A host that the tests let run: domains whose counters they set, and a clock of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from shype.meter.account import Run
from shype.meter.ledger import Ledger
from shype.meter.sampler import Taken, Why, sample
from shype.meter.source import Counters, Kind, Moment, Reading, Sight

SECOND = 10**9
MIB = 2**20


@dataclass
class Machine:
    """Implements `shype.meter.source.Source`; what runs on it does as it is told."""

    boot: str = "boot-1"
    uptime: int = 100 * SECOND
    wall: int = 1_700_000_000 * SECOND
    domains: dict[int, Reading] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def start(self, domid: int, name: str, memory: int = 128 * MIB) -> None:
        """A domain begins to run."""
        self.domains[domid] = Reading(domid, f"uuid-{name}", f"label-{name}", 0, memory)
        self.names[domid] = name

    def passes(self, seconds: int) -> None:
        """Time goes by."""
        self.uptime += seconds * SECOND
        self.wall += seconds * SECOND

    def runs(self, domid: int, seconds: float) -> None:
        """It uses the processor."""
        found = self.domains[domid]
        self.domains[domid] = replace(found, cpu_ns=found.cpu_ns + int(seconds * SECOND))

    def moves(self, domid: int, device: str, bytes_in: int, bytes_out: int) -> None:
        """A device moves bytes, one operation for each."""
        found = self.domains[domid]
        kind = Kind.DISK if device.startswith("vbd") else Kind.NETWORK
        old = found.devices.get(device, Counters(kind))
        new = Counters(kind, old.bytes_in + bytes_in, old.bytes_out + bytes_out,
                       old.operations_in + bytes_in, old.operations_out + bytes_out)
        self.devices(domid, {**found.devices, device: new})

    def devices(self, domid: int, devices: Mapping[str, Counters]) -> None:
        """What it has now."""
        self.domains[domid] = replace(self.domains[domid], devices=devices)

    def stop(self, domid: int) -> None:
        """It shuts down, and is still there."""
        self.domains[domid] = replace(self.domains[domid], stopped=True)

    def gone(self, domid: int) -> None:
        """It is destroyed."""
        del self.domains[domid]

    def reboots(self) -> None:
        """The host boots."""
        self.boot, self.uptime = f"boot-{int(self.boot.split('-')[1]) + 1}", 10 * SECOND
        self.domains.clear()

    def look(self) -> Sight:
        """See the protocol."""
        return Sight(Moment(self.boot, self.uptime, self.wall),
                     tuple(self.domains[domid] for domid in sorted(self.domains)))

    def name(self, domid: int) -> str:
        """See the protocol."""
        return self.names[domid]


class Labels:
    """In place of `shype.meter.sampler.Whose`: the label is in the context."""

    def run(self, name: str, number: int, boot: str, reading: Reading) -> Run:
        """See there."""
        return Run(number, name, reading.uuid, reading.domid, boot,
                   reading.context.removeprefix("label-"), ("all",))


def begun(place: Path) -> Ledger:
    """A new ledger."""
    ledger = Ledger(place / "meter")
    ledger.begin({"host": "h"})
    return ledger


def take(ledger: Ledger, machine: Machine, why: Why = Why.TIMER, interval: int = 10) -> Taken:
    """A sample."""
    return sample(ledger, machine, Labels(), why, interval)
