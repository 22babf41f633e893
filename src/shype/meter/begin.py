"""Begins the ledger of a host, and puts on record that it did."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.meter.ledger import Ledger
from shype.policy.ed25519 import PublicKey


@dataclass(frozen=True, slots=True)
class Begun:
    """A ledger that begins with ``key``, in ``file``; ``before``: where the old one is now."""

    key: PublicKey
    file: Path
    before: Path | None

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype meter begin --json``."""
        return {"key": self.key.id, "file": str(self.file),
                "before": str(self.before) if self.before else None}


def begin(agent: Agent, *, again: bool = False) -> Begun:
    """Begin one in ``meter`` of the agent's state. Raises as `Ledger.begin`."""
    ledger = Ledger(agent.state / "meter")
    ref = agent.manifest.policy
    before = ledger.begin({"host": os.uname().nodename, "policy": f"{ref.name} {ref.version}"},
                          again=again)
    file = ledger.places.public
    try:
        key = PublicKey.from_pem(file.read_bytes(), str(file))
    except OSError as error:
        raise Unavailable("meter.unwritable", f"{file} cannot be read: {error.strerror}") from error
    agent.record(Event(
        kind="meter.begin", result=Result.DONE, deferrable=True,
        details={"key": key.id, "before": str(before) if before else None}))
    return Begun(key, file, before)
