"""The hypervisor's denials, put on record: new ones only, alike ones counted, floods held back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shype.base import canonical
from shype.base.errors import ShypeError
from shype.base.files import read_regular, write_atomic
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.audit.limiter import Bucket, Waiting
from shype.host.avc import OURS, AvcDenial, held_back, parse
from shype.host.census import Resident, residents, running
from shype.host.denials import explain
from shype.host.journal import boot_id

_FORMAT = 2
#: The source of what Xen held back itself: it does not say of whom.
_XEN = "xen"
_MAX_FILE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Collected:
    """How many denials are new, how many records were made, how many denials still wait.

    ``lost``: bytes of the hypervisor's console that were overwritten or cleared before they could
    be read; nobody knows whether there were denials in them.  ``held_back``: messages that the
    hypervisor says it has not printed, since there were too many at once.
    """

    denials: int = 0
    records: int = 0
    waiting: int = 0
    lost: int = 0
    held_back: int = 0


@dataclass(slots=True)
class _Memory:
    """What is remembered from one time to the next, in one boot: the position in the console up
    to which it was read (None: not at all), and what waits for a record."""

    position: int | None = None
    buckets: dict[str, Bucket] = field(default_factory=dict)


def collect(agent: Agent) -> Collected:
    """Record what the hypervisor denied since the last time.

    If it is killed on the way, the next one records the same again: twice rather than never.
    While another process does this, nothing is done.  On a full disk the denials stay in the
    hypervisor's ring: a guest must not be able to fill the reserve.

    Raises Unavailable: ``audit.unwritable``, ``audit.broken``, what the hypervisor raises.
    """
    with _alone(agent) as alone:
        if not alone:
            return Collected()
        file = agent.trail.directory / "collected.json"
        memory = _load(file)
        before = memory.position
        found = agent.hypervisor.console(before)
        # A line that is still being printed is left for the next time.
        whole = found.text[:found.text.rfind(b"\n") + 1]
        lost = 0 if before is None else (found.start - before) % 2**32
        # Only whole lines of Xen's own: the rest of one could be what a guest has printed.
        lines = [line for line in whole.decode("ascii", "replace").split("\n")
                 if line.startswith(OURS)]
        denied = [d for line in lines if (d := parse(line)) is not None]
        held = [(line, number) for line in lines if (number := held_back(line))]
        now = time.monotonic()
        for bucket in memory.buckets.values():
            bucket.refill(now)
        for denial in denied:
            bucket = memory.buckets.setdefault(_source(denial), Bucket(at=now))
            bucket.add(_kind(denial), denial.raw)
        for line, number in held:
            memory.buckets.setdefault(_XEN, Bucket(at=now)).add(_XEN, line, times=number)
        if lost:
            agent.record(Event(
                kind="denial.gap", result=Result.DONE, details={"bytes": lost},
                message="the hypervisor's ring was overwritten or cleared before it could be "
                "read: denials may be lost"))
        memory.position = (found.start + len(whole)) % 2**32
        try:
            made = _record(agent, memory)
        except ShypeError:
            with contextlib.suppress(ShypeError):  # what was recorded is not to come again
                _save(agent, file, memory)
            raise
        if memory.position != before or made:
            _save(agent, file, memory)
        waiting = sum(b.held for source, b in memory.buckets.items() if source != _XEN)
        return Collected(
            len(denied), made, waiting, lost, sum(number for _, number in held))


def _record(agent: Agent, memory: _Memory) -> int:
    """Record what may be recorded; how many records."""
    if not any(bucket.ready for bucket in memory.buckets.values()):
        return 0  # in a flood: without asking for all domains each time
    found = residents(agent)
    made = 0
    for source, bucket in memory.buckets.items():
        while bucket.waiting and bucket.take():
            kind = next(iter(bucket.waiting))
            agent.record(_held_back(bucket.waiting[kind]) if source == _XEN else
                         _event(agent, bucket.waiting[kind], found))
            del bucket.waiting[kind]
            made += 1
        if bucket.more and bucket.take():
            agent.record(Event(
                kind="denial.more", result=Result.REFUSED, object=f"source:{source}",
                message="denials of further kinds, too many to keep apart",
                details={"times": bucket.more}))
            bucket.more = 0
            made += 1
    return made


def _event(agent: Agent, waiting: Waiting, found: tuple[Resident, ...]) -> Event:
    denial = parse(waiting.line) or AvcDenial(waiting.line)
    explained = explain(agent, denial, running(found))
    names = {r.domain.domid: r.domain.name for r in found}
    if denial.target is not None:
        target = f"vm:{names.get(denial.target, f'domain {denial.target}')}"
    else:
        target = f"context:{denial.target_context}"
    return Event(
        kind="denial", result=Result.REFUSED, domid=denial.source,
        vm=None if denial.source is None else names.get(denial.source),
        subject=explained.source, object=target, object_label=explained.target,
        decision=explained.decision, details={
            "by": "hypervisor", "times": waiting.times, "class": denial.tclass,
            "permissions": list(denial.permissions), "line": denial.raw})


def _held_back(waiting: Waiting) -> Event:
    return Event(
        kind="denial.held-back", result=Result.REFUSED,
        details={"messages": waiting.times, "line": waiting.line},
        message="the hypervisor limits its messages, and has not printed so many: nearly all are "
        "denials, alike those recorded shortly before")


def _source(denial: AvcDenial) -> str:
    return f"{denial.source_context or 'unknown'} {denial.source}"


def _kind(denial: AvcDenial) -> str:
    return " ".join((denial.target_context, str(denial.target), denial.tclass,
                     *denial.permissions))


@contextlib.contextmanager
def _alone(agent: Agent) -> Iterator[bool]:
    place = agent.trail.directory
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(place / "collect.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise agent.trail.unwritable(error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


def _load(file: Path) -> _Memory:
    """What was remembered in this boot; nothing if it is damaged: then denials come twice."""
    try:
        value: dict[str, Any] = json.loads(read_regular(file, _MAX_FILE))
        if value["format"] != _FORMAT or value["boot"] != boot_id():
            return _Memory()
        return _Memory(
            None if value["position"] is None else int(value["position"]),
            {str(name): Bucket.from_json(item) for name, item in value["buckets"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _Memory()


def _save(agent: Agent, file: Path, memory: _Memory) -> None:
    buckets = {name: b.to_json() for name, b in memory.buckets.items() if not b.idle}
    data = canonical.dumps({
        "format": _FORMAT, "boot": boot_id(), "buckets": buckets, "position": memory.position})
    try:
        write_atomic(file, data, 0o600, durable=False)  # of this boot, and as often as denials
    except OSError as error:
        raise agent.trail.unwritable(error) from error
