"""`make bench-attest`: what appraising evidence costs a verifier, on one core.

Hosts are TPMs on paper (`tests.attest.paper_tpm`): to a verifier their quotes are as real ones.
Times are CPU seconds of this process, the verifier's files in a directory of the disk included in
the second table. The goals: less than 10 ms for a quote, 1,000 hosts within 10 s.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.attest import event_log, evidence
from shype.attest.host_events import HostEvent, Kind, to_event
from shype.attest.public import attestation_key
from shype.attest.verdict import appraise
from shype.cli import output
from shype.host.attest_result import Verdict
from tests.attest.logs import LAUNCH
from tests.attest.world import NOW, REFERENCES, Machine, World, paper_machine

#: Events in the log: a host just started, one that has run for months.
LOGS = (3, 100, 1000, 10000)
HOSTS = 1000
#: Events in the log of each of them.
EVENTS = 50


@dataclass(frozen=True, slots=True)
class One:
    """Milliseconds of CPU for one appraisal, and the evidence's size in KB."""

    events: int
    milliseconds: float
    kilobytes: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Seconds for one round of all hosts: on the CPU, and on the clock."""

    hosts: int
    cpu: float
    wall: float


def busy(machine: Machine, events: int) -> None:
    """The host has launched VMs until its log has ``events`` events."""
    log = machine.log.read_bytes()
    parts = [log]
    for number in range(events - len(event_log.loads(log))):
        entry = to_event(HostEvent(Kind.LAUNCH, {**LAUNCH.values, "image": f"{number:064x}"}))
        assert entry.sha256 is not None
        machine.tpm.pcr_extend(entry.pcr, entry.sha256)
        parts.append(event_log.encode(entry))
    machine.log.write_bytes(b"".join(parts))


def one(place: Path, events: int, rounds: int) -> One:
    """What one appraisal of a log with ``events`` events costs."""
    machine = paper_machine(World(place / f"log-{events}"))
    busy(machine, events)
    data = machine.evidence()
    nonce, key = evidence.loads(data).nonce, attestation_key(machine.attester.key().public)
    began = time.process_time()
    for _ in range(rounds):
        found = appraise(data, ak=key, nonce=nonce, references=REFERENCES, now=NOW)
        if found.verdict is not Verdict.TRUSTED:
            raise AssertionError(found.reasons)
    return One(events, (time.process_time() - began) / rounds * 1000, len(data) / 1000)


def fleet(place: Path, hosts: int, events: int) -> Fleet:
    """What a round of all ``hosts`` costs a verifier that has seen each of them before."""
    world = World(place / "fleet")
    machines = [paper_machine(world, f"xen{number}") for number in range(hosts)]
    for machine in machines:
        busy(machine, events)
        machine.attest()
    shown = [machine.evidence() for machine in machines]
    cpu, wall = time.process_time(), time.perf_counter()
    for data in shown:
        result = world.verifier.appraise(data)[0]
        if result.verdict is not Verdict.TRUSTED:
            raise AssertionError(result.reasons)
    return Fleet(hosts, time.process_time() - cpu, time.perf_counter() - wall)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.attest", description=__doc__)
    parser.add_argument("--hosts", type=int, default=HOSTS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        singles = [one(place, events, max(3, 2000 // events)) for events in LOGS]
        all_ = fleet(place, args.hosts, EVENTS)
    if args.json:
        output.print_json({
            "quotes": [{"events": s.events, "ms": s.milliseconds, "kb": s.kilobytes}
                       for s in singles],
            "fleet": {"hosts": all_.hosts, "events": EVENTS, "cpu_s": all_.cpu,
                      "wall_s": all_.wall}})
        return 0
    print(f"{platform.machine()}, Python {platform.python_version()}, one core\n")
    output.table("one quote, appraised", ["events in the log", "ms", "evidence KB"], [
        [f"{s.events:,}", f"{s.milliseconds:.2f}", f"{s.kilobytes:,.1f}"] for s in singles])
    print()
    output.table(f"all hosts once, {EVENTS} events each, results signed and kept",
                 ["hosts", "CPU s", "clock s", "hosts per 10 s"], [
        [f"{all_.hosts:,}", f"{all_.cpu:.2f}", f"{all_.wall:.2f}",
         f"{10 * all_.hosts / all_.wall:,.0f}"]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
