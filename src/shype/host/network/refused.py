"""Frames that the bridges refused, in the words of the policy; new ones go on record.

The kernel counts them, by ports and reason; nothing is logged, so no guest can flood dom0's
kernel log.  The counters begin anew with each table, so `mediation` calls `take` before it loads
one, and `remember` after.  Both are called under its lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shype.base import canonical
from shype.base.errors import BadInput, ShypeError
from shype.base.files import read_regular, write_atomic
from shype.decision.decision import Decision
from shype.decision.frames import Frames
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.audit.limiter import Bucket, Waiting
from shype.host.census import Resident
from shype.host.ids import HostId
from shype.host.journal import boot_id
from shype.host.network.matrix import Matrix
from shype.host.network.reasons import Reason
from shype.policy.names import LabelName

_FILE = "network.refused"
_FORMAT = 1
_MAX_FILE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class End:
    """A port when the table was loaded, and whose it was. An uplink is no domain's; a stranger
    has a name only."""

    port: str
    domid: int | None = None
    vm: str | None = None
    label: LabelName | None = None
    bridge: str | None = None

    def __str__(self) -> str:
        outside = self.domid is None and self.bridge is not None
        return f"{self.vm or self.port} ({self.label or ('outside' if outside else 'no label')})"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Alike frames, and how many. ``receiver`` is None where none was told apart."""

    sender: End
    receiver: End | None
    reason: Reason
    frames: int

    @property
    def told(self) -> str:
        """One sentence for people."""
        if self.reason is Reason.FROM_DOM0:
            return f"dom0 sent to {self.sender} what the policy keeps apart"
        to = f" to {self.receiver}" if self.receiver else ""
        return f"{self.sender} sent{to} frames {self.reason.what}"


    def to_json(self) -> dict[str, object]:
        """The shape in ``--json``."""
        return {"from": asdict(self.sender), "frames": self.frames, "sentence": self.told,
                "to": asdict(self.receiver) if self.receiver else None,
                "reason": self.reason.name.lower()}


@dataclass(frozen=True, slots=True)
class Taken:
    """How many refused frames are new and of a kind that is recorded, how many records were made,
    how many such frames wait for one."""

    frames: int = 0
    records: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Memory:
    """``table`` is the one whose ``counts`` were seen last, and in which ``ports`` are named."""

    table: int | None = None
    counts: dict[tuple[str, str, int], int] = field(default_factory=dict)
    ports: dict[str, End] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)


def refusals(agent: Agent) -> tuple[Refusal, ...]:
    """All that was refused since the table was loaded, most frames first.

    Raises Unavailable (``network.filter``).
    """
    memory = _load(agent.state / _FILE)
    found = _named(agent.hypervisor.switch().refused().frames, memory.ports)
    return tuple(sorted(found, key=lambda each: -each.frames))


def take(agent: Agent) -> Taken:
    """Put on record what was refused since the last time; what honest VMs cause is left out.

    Each VM has records of its own, `limiter.BURST` at once and one more a minute; alike frames
    are one record. Killed on the way, the same may be recorded again.
    Raises Unavailable: ``network.filter``, ``audit.unwritable``, ``audit.broken``.
    """
    file = agent.state / _FILE
    memory = _load(file)
    now = agent.hypervisor.switch().refused()
    before = memory.counts if memory.table == now.table else {}
    grown = {key: new for key, count in now.frames.items()
             if (new := _grown(before.get(key, 0), count))}
    changed = bool(grown) or memory.table != now.table
    memory.table, memory.counts = now.table, dict(now.frames)
    fresh = [each for each in _named(grown, memory.ports) if not each.reason.expected]
    at = time.monotonic()
    for bucket in memory.buckets.values():
        bucket.refill(at)
    for each in fresh:
        bucket = memory.buckets.setdefault(_source(each.sender), Bucket(at=at))
        bucket.add(f"{each.receiver} {each.reason.name}", _dumped(each), times=each.frames)
    try:
        made = _record(agent, memory)
    except ShypeError:
        _save(file, memory)
        raise
    if changed or made:
        _save(file, memory)
    return Taken(sum(each.frames for each in fresh), made,
                 sum(bucket.held for bucket in memory.buckets.values()))


def remember(agent: Agent, matrix: Matrix, found: Sequence[Resident]) -> None:
    """A table for ``matrix`` has been loaded: whose its ports are. Never raises."""
    names = {r.domain.domid: r.domain.name for r in found}
    file = agent.state / _FILE
    memory = _load(file)
    ports = {
        p.vif.name: End(p.vif.name, p.vif.domid, names.get(p.vif.domid), p.label, p.vif.bridge)
        for p in matrix.ports
    } | {up.name: End(up.name, bridge=up.bridge) for up, _ in matrix.uplinks}
    if ports != memory.ports:
        memory.ports = ports
        _save(file, memory)


def _grown(before: int, now: int) -> int:
    """How many are new; a counter that went back was set to 0 by somebody."""
    return now - before if now >= before else now


def _record(agent: Agent, memory: _Memory) -> int:
    made = 0
    for source, bucket in memory.buckets.items():
        while bucket.waiting and bucket.take():
            kind, waiting = next(iter(bucket.waiting.items()))
            agent.record(_event(agent, waiting))
            del bucket.waiting[kind]
            made += 1
        if bucket.more and bucket.take():
            agent.record(Event(
                kind="network.refuse", result=Result.REFUSED, object=f"source:{source}",
                message="refused frames of further kinds, too many to keep apart",
                details={"by": "bridge", "frames": bucket.more}))
            bucket.more = 0
            made += 1
    return made


def _event(agent: Agent, waiting: Waiting) -> Event:
    each = _undumped(waiting)
    sender, receiver = each.sender, each.receiver
    return Event(
        kind="network.refuse", result=Result.REFUSED, vm=sender.vm, domid=sender.domid,
        subject=sender.label, decision=_decision(agent, each),
        object=f"network:{sender.bridge or '?'}" if receiver is None
        else f"vm:{receiver.vm or receiver.port}",
        object_label=None if receiver is None else receiver.label,
        details={"by": "bridge", "frames": each.frames, "port": sender.port,
                 "reason": each.reason.name.lower(),
                 **({"to": receiver.port} if receiver else {})})


def _decision(agent: Agent, each: Refusal) -> Decision | None:
    sender, receiver = each.sender, each.receiver
    if each.reason is Reason.PAIR:
        if receiver is None or not sender.label or not receiver.label or sender.bridge is None:
            return None
        try:
            found = Frames(agent.server, sender.bridge).decide(sender.label, receiver.label)
        except BadInput:
            return None  # the policy is another one by now
        return None if found.permitted else found
    kind = (HostId.FRAME_KIND if each.reason in (Reason.TAG, Reason.GROUP, Reason.ROUTER)
            else HostId.FRAME_STRANGER if each.reason is Reason.STRANGER else HostId.FRAME_NAME)
    return Decision(False, kind, f"{each.told}.")


def _named(
    counts: Mapping[tuple[str, str, int], int], ports: Mapping[str, End]
) -> Iterator[Refusal]:
    known = {reason.value: reason for reason in Reason}
    for (a, b, number), frames in counts.items():
        if number in known:
            yield Refusal(ports.get(a, End(a)), None if a == b else ports.get(b, End(b)),
                          known[number], frames)


def _source(end: End) -> str:
    return f"{end.vm or end.port} {end.domid}"


# -- what is kept ---------------------------------------------------------------------------------


def _dumped(each: Refusal) -> str:
    """As it waits for its record: the ports may be another VM's by then."""
    return json.dumps([asdict(each.sender), asdict(each.receiver) if each.receiver else None,
                       each.reason.value])


def _undumped(waiting: Waiting) -> Refusal:
    sender, receiver, reason = json.loads(waiting.line)
    return Refusal(End(**sender), End(**receiver) if receiver else None, Reason(reason),
                   waiting.times)


def _load(file: Path) -> _Memory:
    """What was remembered in this boot; nothing if it is damaged: then frames count twice."""
    try:
        value: dict[str, Any] = json.loads(read_regular(file, _MAX_FILE))
        if value["format"] != _FORMAT or value["boot"] != boot_id():
            return _Memory()
        memory = _Memory(
            value["table"], {(str(a), str(b), int(r)): int(n) for a, b, r, n in value["counts"]},
            {str(name): End(**end) for name, end in value["ports"].items()},
            {str(name): Bucket.from_json(item) for name, item in value["buckets"].items()})
        for bucket in memory.buckets.values():
            list(map(_undumped, bucket.waiting.values()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _Memory()
    return memory


def _save(file: Path, memory: _Memory) -> None:
    """On a full disk nothing is kept: what was counted is recorded again later, or lost when
    the next table is loaded."""
    data = canonical.dumps({
        "format": _FORMAT, "boot": boot_id(), "table": memory.table,
        "counts": [[a, b, r, n] for (a, b, r), n in sorted(memory.counts.items())],
        "ports": {name: asdict(end) for name, end in memory.ports.items()},
        "buckets": {name: b.to_json() for name, b in memory.buckets.items() if not b.idle}})
    try:
        write_atomic(file, data, 0o600, durable=False)
    except OSError:
        return
