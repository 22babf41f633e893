"""`shype meter watch`: samples at an interval, changes the key and anchors from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import ShypeError
from shype.meter import serve
from shype.meter.anchor import Anchor, anchored
from shype.meter.ledger import Ledger
from shype.meter.sampler import Opener, Taken, Why, sample
from shype.meter.source import Source


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds between samples, and between changes of the key (and anchors, if there is one);
    ``textfile``: where metrics are written after each sample."""

    interval: int = 60
    renew: int = 3600
    textfile: Path | None = None


def watch(
    ledger: Ledger, source: Source, whose: Callable[[], Opener], plan: Plan,
    tell: Callable[[Taken | ShypeError], None], *, anchor: Anchor | None = None,
    go_on: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sample until ``go_on`` says no. ``whose`` is asked each time: the policy may change.

    What goes wrong is told, and tried again at the next sample: the figures are cumulative, so
    nothing of what still runs is lost. Raises BadInput (``meter.no-ledger``) at the start.
    """
    with ledger.writer():
        pass
    why, due, renew = Why.START, clock(), clock() + plan.renew
    while True:
        try:
            tell(sample(ledger, source, whose(), why, plan.interval))
            why = Why.TIMER
            if plan.textfile is not None:
                serve.write(ledger, plan.textfile)
            if clock() >= renew:
                renewed(ledger, anchor, "time")
                renew = clock() + plan.renew
        except ShypeError as error:
            tell(error)
        if not go_on():
            return
        # On the beat: what a sample takes does not make the next one late.
        due = max(due + plan.interval, clock())
        sleep(max(due - clock(), 0))


def renewed(ledger: Ledger, anchor: Anchor | None, why: str) -> None:
    """A new key; and with an anchor the ledger's end goes there. Raises Unavailable."""
    with ledger.writer() as writer:
        writer.rotate_key(why, {})
        if anchor is not None:
            anchored(writer, anchor)
