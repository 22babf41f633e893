"""Is a trail whole? Needs nothing but its files; with the key, it asks who wrote them, too.

Without the key only carelessness is found: whoever may write the files can make a whole chain
of hashes anew.  With it, nothing that was written before an intruder came can be changed,
removed, reordered or cut off unseen; an old copy put in the place of all of it is found by an
anchor (number and hash of a record) that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shype.base.files import read_regular
from shype.host.audit.anchors import Loaded
from shype.host.audit.anchors import read as read_loads
from shype.host.audit.head import Head, fresh, proof
from shype.host.audit.reader import Line, Stored, stored
from shype.host.audit.record import ZERO, Key, Record, decode, following, seal
from shype.host.audit.writer import Broken, check_anchor

#: So many are told; a trail that was rewritten would have one in each line.
MOST = 1000
#: Longest gap over which the key is carried on.
_FAR = 10_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold. ``line`` counts from 1; 0: it is about the whole file."""

    file: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``sealed``: the seals were checked, with the key. ``notes`` are no faults."""

    trail: str
    records: int
    first: int
    last: int
    hash: str
    sealed: bool
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Anchor:
    """A record that was seen: its number, and the beginning of its hash."""

    seq: int
    hash: str


@dataclass(slots=True)
class _Walk:
    """Where the walk along the chain stands. ``key`` is that of record ``keyed``."""

    seq: int
    prev: str
    key: Key | None
    keyed: int
    first: int | None = None
    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: list[Line] = field(default_factory=list)
    why: str = ""
    hashes: dict[int, str] = field(default_factory=dict)
    #: The keys behind these records.
    after: dict[int, Key] = field(default_factory=dict)

    def found(self, file: Path, line: int, what: str) -> None:
        """A problem."""
        if len(self.problems) < MOST:
            self.problems.append(Problem(file, line, what))


def verify(
    directories: Sequence[Path], key: tuple[str, Key] | None = None, *,
    anchors: Sequence[Anchor] = (), begin: int = 1, nonce: str = "",
) -> Report:
    """Walk along the whole chain.

    ``directories`` as in `reader.stored`; ``key`` is the trail's id and the key of record 1;
    ``begin`` is the first record that must be there, if earlier files are kept elsewhere.
    ``nonce`` (with the key) is the one that the copy was asked for with.

    Raises BadInput (``audit.no-trail``), OSError.
    """
    trail = stored(directories)
    walk = _Walk(begin - 1, ZERO, None, 1)
    if key is not None:
        walk.key = key[1]
        if trail.head is not None and trail.head.trail != key[0]:
            walk.found(trail.places.head, 0, f"this is the trail {trail.head.trail}, and the key "
                       f"is that of {key[0]}")
    loads = _loads(walk, trail)
    wanted = {anchor.seq for anchor in anchors} | {load.seq for _, load in loads}
    wanted |= {trail.head.seq} if trail.head else set()
    for line in trail.lines():
        _line(walk, line, wanted)
    _names(walk, trail)
    _end(walk, trail, nonce)
    for anchor in anchors:
        _anchor(walk, trail, anchor)
    for number, load in loads:
        _loaded(walk, trail, number, load)
    return Report(
        trail.head.trail if trail.head else "", walk.records, walk.first or 0, walk.seq, walk.prev,
        key is not None, tuple(walk.problems), tuple(walk.notes))


def _line(walk: _Walk, line: Line, wanted: set[int]) -> None:
    try:
        record = decode(line.data)
    except ValueError as error:
        if not walk.bad:
            walk.why = str(error)
        walk.bad.append(Line(line.file, line.number, line.data if len(walk.bad) < MOST else b""))
        return
    walk.records += 1
    if walk.bad or record.body.get("kind") == "audit.torn":
        _torn(walk, line, record)
    if _chained(walk, line, record):
        _sealed(walk, line, record)
        if record.seq in wanted:
            walk.hashes[record.seq] = record.hash
            if walk.key is not None and walk.keyed == record.seq:
                walk.after[record.seq] = following(walk.key)
    if record.body.get("kind") == "audit.lost":
        count = _details(record).get("events")
        walk.notes.append(f"record {record.seq}: {count} events were lost, the disk was full and "
                          "so was the reserve")


def _chained(walk: _Walk, line: Line, record: Record) -> bool:
    """Whether the record carries the walk on."""
    if walk.first is None:
        walk.first = record.seq
        if record.seq == walk.seq + 1 and (record.seq > 1 or record.prev == ZERO):
            walk.seq, walk.prev = record.seq, record.hash
            return True
    expected = walk.seq + 1
    if record.seq < expected:
        walk.found(line.file, line.number,
                   f"record {record.seq} stands behind record {walk.seq}")
        return False
    if record.seq > expected:
        missing = f"record {expected} is" if record.seq == expected + 1 else (
            f"records {expected} to {record.seq - 1} are")
        walk.found(line.file, line.number, f"{missing} missing before record {record.seq}")
    elif record.prev != walk.prev:
        walk.found(line.file, line.number,
                   f"record {record.seq} was not made to follow the one before it")
    walk.seq, walk.prev = record.seq, record.hash
    return True


def _sealed(walk: _Walk, line: Line, record: Record) -> None:
    key = _key(walk, record.seq)
    if key is not None and not hmac.compare_digest(seal(key, record.hash), record.mac):
        walk.found(line.file, line.number,
                   f"record {record.seq} was not sealed with the key that the host had then")


def _key(walk: _Walk, seq: int) -> Key | None:
    """The key of record ``seq``; None without a key, or if that is out of reach."""
    if walk.key is None or not 0 <= seq - walk.keyed <= _FAR:
        return None
    while walk.keyed < seq:
        walk.key, walk.keyed = following(walk.key), walk.keyed + 1
    return walk.key


def _torn(walk: _Walk, line: Line, record: Record) -> None:
    """Bad lines are accounted for if the record behind them says so."""
    bad, walk.bad = walk.bad, []
    data = b"".join(each.data for each in bad)
    details = _details(record)
    said = record.body.get("kind") == "audit.torn"
    if said and bad and details.get("bytes") == len(data) and (
            details.get("sha256") == hashlib.sha256(data).hexdigest()):
        walk.notes.append(f"record {record.seq}: a writer was killed; {len(data)} bytes of its "
                          "record stand before this one")
        return
    for each in bad:
        walk.found(each.file, each.number, walk.why if each is bad[0] else "no record")
    if said:
        walk.found(line.file, line.number, "the torn line that this record tells of is not there, "
                   "or another one")


def _names(walk: _Walk, trail: Stored) -> None:
    after = None
    for first, last, path in trail.closed:
        if after is not None and first != after + 1:
            walk.found(path, 0, f"the file before it ended with record {after}")
        after = last


def _end(walk: _Walk, trail: Stored, nonce: str) -> None:
    head, file = trail.head, trail.places.head
    if head is None:
        walk.found(file, 0, f"{trail.damage}: nothing says where the trail ends")
        _left(walk, None)
        return
    _left(walk, head)
    if walk.seq < head.seq:
        walk.found(trail.places.current, 0, f"the trail ends with record {walk.seq}, and had "
                   f"record {head.seq}: its end was cut off")
    elif walk.hashes.get(head.seq, ZERO) != head.hash and head.seq:
        walk.found(file, 0, f"record {head.seq} is another one than the last that was written")
    elif walk.seq > head.seq:
        walk.notes.append(f"{walk.seq - head.seq} records are newer than the head: a writer was "
                          "killed, or still writes")
    _proved(walk, trail, head)
    if nonce:
        _fresh(walk, trail, head, nonce)
    if head.lost:
        walk.notes.append(f"{head.lost} events were lost: the disk is full, and so is the reserve")
    if trail.places.unchained.exists():
        walk.notes.append(f"{trail.places.unchained}: events that the chain did not take")
    try:
        check_anchor(trail.places, head)
    except Broken as error:
        walk.found(file, 0, str(error))
    except OSError:
        pass  # not ours to read


def _proved(walk: _Walk, trail: Stored, head: Head) -> None:
    """The walk's key may be further on, behind the head: then it asks for the records there."""
    if walk.key is None or walk.keyed > head.seq + 1:
        return
    key = _key(walk, head.seq + 1)
    if key is None or not hmac.compare_digest(proof(key, head), head.proof):
        walk.found(trail.places.head, 0, f"the end at record {head.seq} was not made by the host "
                   "that wrote the records: it was cut off or replaced")


def _fresh(walk: _Walk, trail: Stored, head: Head, nonce: str) -> None:
    file = trail.places.answer
    try:
        said = read_regular(file, 1000).decode("ascii", "replace")
    except OSError as error:
        walk.found(file, 0, f"no answer to the nonce: {error.strerror}")
        return
    key = _key(walk, head.seq + 1)
    if key is None or not hmac.compare_digest(fresh(key, head, nonce), said):
        walk.found(file, 0, f"the host cannot show that its trail ends with record {head.seq} now: "
                   "this is an old copy, or its end was cut off")


def _left(walk: _Walk, head: Head | None) -> None:
    """Bytes behind the last record."""
    size = sum(len(line.data) for line in walk.bad)
    if not walk.bad:
        return
    if head is not None and walk.seq >= head.seq:
        walk.notes.append(f"{walk.bad[0].file}: {size} bytes behind the last record: a writer was "
                          "killed, or still writes")
    else:
        for line in walk.bad:
            walk.found(line.file, line.number, walk.why if line is walk.bad[0] else "no record")
    walk.bad = []


def _anchor(walk: _Walk, trail: Stored, anchor: Anchor) -> None:
    if anchor.seq > walk.seq:
        walk.found(trail.places.head, 0, f"the trail ends with record {walk.seq}, and record "
                   f"{anchor.seq} was seen: an old copy was put in its place")
    elif not walk.hashes.get(anchor.seq, "").startswith(anchor.hash):
        walk.found(trail.places.head, 0, f"record {anchor.seq} is another one than was seen")


def _loads(walk: _Walk, trail: Stored) -> list[tuple[int, Loaded]]:
    """The lines of this trail's anchors, by their numbers."""
    if trail.head is None:
        return []
    try:
        lines = read_loads(trail.places.loads)
    except OSError:
        return []  # not ours to read
    for number, load in lines:
        if load is None:
            walk.notes.append(f"{trail.places.loads}:{number}: no anchor: a writer was killed")
    return [(number, load) for number, load in lines
            if load is not None and load.trail == trail.head.trail]


def _loaded(walk: _Walk, trail: Stored, number: int, load: Loaded) -> None:
    """An anchor of the host's own, made when a policy was loaded."""
    if walk.first is not None and load.seq < walk.first:
        return  # of files that are kept elsewhere
    when = f"when a policy was loaded ({load.time})"
    if load.seq > walk.seq:
        walk.found(trail.places.head, 0, f"the trail ends with record {walk.seq}, and had record "
                   f"{load.seq} {when}: it was cut off, or an old copy was put in its place")
    elif walk.hashes.get(load.seq, ZERO) != load.hash:
        walk.found(trail.places.loads, number, f"record {load.seq} was another one {when}")
    elif walk.key is not None and load.seq in walk.after and not load.holds(walk.after[load.seq]):
        walk.found(trail.places.loads, number, "this anchor was not made by the host at its time")


def _details(record: Record) -> Mapping[str, Any]:
    details = record.body.get("details")
    return details if isinstance(details, dict) else {}
