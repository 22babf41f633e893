"""Takes a sample: everything that is read at one moment, as one record of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from shype.meter.account import Run, Step, step
from shype.meter.ledger import Ledger, Writer
from shype.meter.source import Moment, Reading, Source
from shype.policy.manifest import Manifest
from shype.policy.model import Policy
from shype.policy.names import LabelName


class Why(StrEnum):
    """What made the meter look."""

    TIMER = "timer"
    START = "start"  # of the program that samples
    HAND = "hand"
    LAUNCH = "launch"
    END = "end"  # of a domain, right before it is destroyed


@dataclass(frozen=True, slots=True)
class Taken:
    """A sample: its record's number and hash, and what it says."""

    seq: int
    hash: str
    step: Step


class Opener(Protocol):
    """Says whose a domain is."""

    def run(self, name: str, number: int, boot: str, reading: Reading) -> Run:
        """The run of a domain that is seen for the first time."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Finds the label of a domain's context, and who shares it; implements `Opener`."""

    policy: Policy
    manifest: Manifest

    def run(self, name: str, number: int, boot: str, reading: Reading) -> Run:
        """See the protocol."""
        label = self.manifest.label_of_context(reading.context)
        known = self.policy.labels.get(LabelName(label)) if label else None
        shared = sorted(known.coalitions) if known is not None else []
        return Run(number, name, reading.uuid, reading.domid, boot, label, tuple(shared))


def sample(
    ledger: Ledger, source: Source, whose: Opener, why: Why, interval: int = 0,
    ends: int | None = None,
) -> Taken:
    """Take one, ``interval`` seconds (0: not known) before the next.

    ``ends``: the domain that is destroyed right after it, so that these are its last figures.
    Raises Unavailable (``meter.*``, and what ``source`` raises).
    """
    with ledger.writer() as writer:
        # Under the lock: of two that sample, the later one has seen later figures.
        sight = source.look()
        before = writer.head
        made = step(before.accounts, before.runs + 1, sight,
                    lambda number, boot, reading: whose.run(
                        source.name(reading.domid), number, boot, reading), ends)
        body = _body(writer, made, sight.moment, why, interval)
        writer.append(body, runs=before.runs + len(made.opened), boot=sight.moment.boot,
                      at=sight.moment.uptime, accounts=made.accounts)
        return Taken(writer.head.seq, writer.head.hash, made)


def when(moment: Moment) -> dict[str, Any]:
    """How records have a moment."""
    return {"boot": moment.boot, "uptime_ns": moment.uptime, "time_ns": moment.wall}


def _body(writer: Writer, made: Step, moment: Moment, why: Why, interval: int) -> Mapping[str, Any]:
    body: dict[str, Any] = {
        "kind": "sample", "why": why, **when(moment), "interval": interval,
        "usage": [[run, *made.accounts[run].usage.row()] for run in sorted(made.accounts)],
    }
    if made.opened:
        body["opened"] = [run.to_json() for run in made.opened]
    if made.ended:
        body["ended"] = [ended.to_json() for ended in made.ended]
    stopped = [run for run, account in sorted(made.accounts.items()) if account.stopped]
    if stopped:
        body["stopped"] = stopped
    if made.blind:
        body["blind"] = {str(run): list(what) for run, what in sorted(made.blind.items())}
    head = writer.head
    if why is Why.START and head.at:
        same = head.boot == moment.boot
        body["gap_ns"] = max(moment.uptime - head.at, 0) if same else None
    return body
