"""Is a ledger whole? Needs its files, and the first public key from where the host cannot reach.

Found are: every changed byte, a record that is missing, added, moved or repeated, amounts that
shrink, a run that goes on after its end; with points (number and hash of a record that was noted
elsewhere) or a counter of the TPM, also a cut-off end, and an old copy of everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shype.base.errors import BadInput
from shype.host.audit.verify import Problem
from shype.meter import head as heads
from shype.meter.account import Run
from shype.meter.anchor import Point
from shype.meter.handover import signers
from shype.meter.places import Places
from shype.meter.reader import Line, lines
from shype.meter.record import ZERO, Record, decode
from shype.meter.usage import NOTHING, Usage
from shype.policy.ed25519 import KeyId, PublicKey

#: So many problems are told.
MOST = 1000
#: A pause is told as a gap if it is so many times as long as samples are apart.
_LATE = 2


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``first_key``: who signed the first record; ``pinned``: and that was asked
    for. ``gaps`` and ``notes`` are no faults."""

    ledger: str
    records: int
    end: Point
    first_key: str
    pinned: bool
    problems: tuple[Problem, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype meter verify --json``."""
        return {
            "ledger": self.ledger, "records": self.records, "end": str(self.end),
            "first_key": self.first_key, "pinned": self.pinned, "good": self.good,
            "problems": [str(problem) for problem in self.problems],
            "gaps": list(self.gaps), "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Walk:
    """Where the walk along the chain stands."""

    wanted: PublicKey | None
    revoked: frozenset[KeyId]
    seq: int = 0
    prev: str = ZERO
    ledger: str = ""
    first_key: str = ""
    key: PublicKey | None = None
    past: list[PublicKey] = field(default_factory=list)
    boot: str = ""
    uptime: int = 0
    interval: int = 0
    runs: int = 0
    open: dict[int, Usage] = field(default_factory=dict)
    anchor: Mapping[str, Any] | None = None
    hashes: dict[int, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(
    directory: Path, first: PublicKey | None = None, *, points: Sequence[Point] = (),
    counter: tuple[str, int] | None = None, revoked: frozenset[KeyId] = frozenset(),
) -> Report:
    """Walk along the whole ledger.

    ``first`` is the key of its first record, as it is known elsewhere; ``points`` are records
    that must be in it; ``counter`` is an anchor's name and what it counts now; ``revoked`` keys
    may have signed nothing.  Raises BadInput (``meter.no-ledger``, ``meter.unknown-key``: one of
    ``revoked`` that a ledger without faults does not have), OSError.
    """
    walk = _Walk(first, revoked)
    wanted = {point.seq for point in points}
    last: Line | None = None
    for line in lines(directory):
        last = line
        for what in _line(walk, line):
            if len(walk.problems) < MOST:
                walk.problems.append(Problem(line.file, line.number, what))
        if walk.seq in wanted:
            walk.hashes[walk.seq] = walk.prev
    end = last.file if last else directory
    walk.problems += [Problem(end, 0, what) for what in (
        *_end(walk, directory), *_points(walk, points), *_counter(walk, counter))]
    unknown = sorted(revoked - {key.id for key in walk.past})
    if unknown and not walk.problems:  # who mistypes a key must not be told that all is well
        raise BadInput("meter.unknown-key", f"the ledger has never had a key {unknown[0]!r}",
                       "give a whole key id, 64 hexadecimal digits, as `shype meter begin` or "
                       "`shype meter key` printed it; is it another host's?")
    if first is None:
        walk.notes.append("the first key was taken as it is: give --key to know whose ledger it is")
    return Report(walk.ledger, walk.seq, Point(walk.seq, walk.prev), walk.first_key,
                  first is not None, tuple(walk.problems), tuple(walk.gaps), tuple(walk.notes))


def _line(walk: _Walk, line: Line) -> list[str]:
    """What is wrong with one line; the walk goes on behind it, whatever it is."""
    if line.problem:
        return [line.problem]
    try:
        record = decode(line.data)
    except ValueError as error:
        return [f"after record {walk.seq}: {error}"]
    found: list[str] = []
    if record.seq != walk.seq + 1:
        found.append(f"record {record.seq} stands where {walk.seq + 1} should: records are "
                     + ("missing" if record.seq > walk.seq + 1 else "repeated or out of order"))
    elif record.prev != walk.prev:
        found.append(f"record {record.seq} does not follow the one before it")
    walk.seq, walk.prev = record.seq, record.hash
    try:
        found += _signed(walk, record)
        found += _said(walk, record)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        found.append(f"record {record.seq} says nothing sensible: {error!r}")
    return found


def _signed(walk: _Walk, record: Record) -> list[str]:
    body = record.body
    if record.kind == "begin" and record.seq == 1:
        walk.key = PublicKey(bytes.fromhex(body["key"]))
        walk.past = [walk.key]
        walk.first_key, walk.ledger = walk.key.id, str(body["ledger"])
        if walk.wanted is not None and walk.key != walk.wanted:
            return [f"it begins with the key {walk.key.id}, not with {walk.wanted.id}"]
    if walk.key is None or not record.signed_by(walk.key):
        return [f"record {record.seq} is not signed by the key whose turn it is"]
    if walk.key.id in walk.revoked:
        return [f"record {record.seq} is signed by the revoked key {walk.key.id}"]
    if record.kind == "key":
        following = PublicKey(bytes.fromhex(body["key"]))
        if not record.signed_by(following):
            return [f"record {record.seq} names a new key that has not signed it"]
        if (since := body.get("doubtful_since")) is not None:
            walk.notes.append(f"record {record.seq}: the key before was revoked ({body['why']}); "
                              f"records from {since} to {record.seq} may be somebody else's")
        walk.key = following
        walk.past.append(following)
    return []


def _said(walk: _Walk, record: Record) -> list[str]:
    body, found = record.body, []
    if record.kind == "begin" and record.seq != 1:
        found.append(f"record {record.seq} begins another ledger")
    if record.kind == "anchor":
        walk.anchor = body["anchor"]
    if record.kind == "handover":
        count, mine = signers(body["statement"], walk.past)
        if not mine:
            found.append(f"record {record.seq} keeps a statement that this host has not signed")
        if count < 2:
            walk.notes.append(f"record {record.seq}: the other host of a migration has not signed")
    if record.kind == "sample":
        found += _time(walk, record)
        found += _amounts(walk, record)
    return found


def _time(walk: _Walk, record: Record) -> list[str]:
    body = record.body
    boot, uptime = str(body["boot"]), int(body["uptime_ns"])
    same, passed = boot == walk.boot, uptime - walk.uptime
    found = []
    if same and passed < 0:
        found.append(f"record {record.seq} is earlier than the one before it")
    if walk.boot and not same:
        walk.gaps.append(f"record {record.seq}: the host had booted")
    elif same and walk.interval and passed > _LATE * walk.interval * 10**9:
        walk.gaps.append(f"record {record.seq}: {passed / 1e9:.0f} s after the one before, where "
                         f"{walk.interval} s were meant")
    walk.boot, walk.uptime = boot, uptime
    walk.interval = int(body["interval"])
    return found


def _amounts(walk: _Walk, record: Record) -> list[str]:
    body, found = record.body, []
    for value in body.get("opened", ()):
        run = Run.of(value)
        if run.number != walk.runs + 1:
            found.append(f"record {record.seq} begins run {run.number}, not {walk.runs + 1}")
        walk.runs = max(walk.runs, run.number)
        walk.open[run.number] = NOTHING
    for value in body.get("ended", ()):
        if walk.open.pop(value["run"], None) is None:
            found.append(f"record {record.seq} ends run {value['run']}, which is none")
        if value["unseen_ns"]:
            walk.gaps.append(f"record {record.seq}: run {value['run']} ended unseen, within "
                             f"{value['unseen_ns'] / 1e9:.1f} s after its last figures")
    seen = set()
    for number, *row in body["usage"]:
        usage = Usage.of(row)
        if number not in walk.open:
            found.append(f"record {record.seq} has amounts of run {number}, which does not go on")
        elif not usage.covers(walk.open[number]):
            found.append(f"record {record.seq}: amounts of run {number} have shrunk")
        walk.open[number] = usage
        seen.add(number)
    if seen != set(walk.open):
        found.append(f"record {record.seq} leaves out runs that go on")
    return found


def _end(walk: _Walk, directory: Path) -> list[str]:
    try:
        head = heads.read(Places(directory).head)
    except heads.Damaged as error:
        return [str(error)]
    if head is None:
        return ["the head is missing: where the ledger ends is not known"]
    if (head.seq, head.hash) != (walk.seq, walk.prev):
        if head.seq == walk.seq + 1:
            return [f"record {head.seq} is not written yet: its writer was killed, or the end was "
                    "cut off; the next sample writes it from the head"]
        return [f"it ends with record {walk.seq}, and should with {head.seq}: its end was cut off "
                "or exchanged"]
    return []


def _points(walk: _Walk, points: Sequence[Point]) -> list[str]:
    return [
        f"record {point.seq} is not the one that was noted: the ledger was exchanged or cut off"
        for point in points if not point.holds(point.seq, walk.hashes.get(point.seq, ""))]


def _counter(walk: _Walk, counter: tuple[str, int] | None) -> list[str]:
    if counter is None:
        return []
    name, now = counter
    if walk.anchor is None or walk.anchor["by"] != name:
        return [f"it was never anchored in the {name}"]
    said = walk.anchor["count"]
    if said == now + 1:
        walk.notes.append("the last anchor was interrupted; the next one makes it good")
        return []
    if said != now:
        return [f"the {name} has counted to {now}, and the ledger to {said}: it is an old copy, or "
                "its end was cut off"]
    return []
