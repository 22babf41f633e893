"""The agent's own samples: when a domain has come, and right before one goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shype.base.errors import ShypeError
from shype.host.audit.event import Event
from shype.meter.ledger import Ledger
from shype.meter.sampler import Opener, Why, sample
from shype.meter.source import Source


@dataclass(frozen=True, slots=True)
class Sampling:
    """Implements `shype.host.witness.Witness`. ``failed`` makes the event of a sample that could
    not be taken, which ``record`` keeps."""

    ledger: Ledger
    source: Source
    whose: Opener
    failed: Callable[[ShypeError], Event]
    record: Callable[[Event], None]

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
            self.record(self.failed(error))
