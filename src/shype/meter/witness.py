"""The agent's own samples: when a domain has come, and right before one goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shype.base.errors import ShypeError
from shype.host.audit.event import Event
from shype.meter.ledger import Ledger
from shype.meter.sampler import Opener, Why, sample
from shype.meter.source import Source

#: Seconds for which the same failure is not put on record again: who waits for a VM looks often.
_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """Implements `shype.host.witness.Witness`. ``failed`` makes the event of a sample that could
    not be taken, which ``record`` keeps."""

    ledger: Ledger
    source: Source
    whose: Opener
    failed: Callable[[ShypeError], Event]
    record: Callable[[Event], None]
    _told: dict[str, float] = field(default_factory=dict)

    def came(self) -> None:
        """See the protocol."""
        self._look(Why.LAUNCH)

    def goes(self, domid: int | None = None) -> None:
        """See the protocol."""
        self._look(Why.END, domid)

    def _look(self, why: Why, ends: int | None = None) -> None:
        try:
            sample(self.ledger, self.source, self.whose, why, ends=ends)
        except ShypeError as error:
            now = time.monotonic()
            if now >= self._told.get(error.id, -_AGAIN) + _AGAIN:
                self._told[error.id] = now
                self.record(self.failed(error))
