"""How many records each source of denials may cause: a bucket of tokens per source.

A guest makes the hypervisor deny as fast as it likes.  Its records are merged and put off, and
no other guest's are: each has its own bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Records at once, and seconds until another one.
BURST = 20
REFILL = 60.0
#: Kinds of denials of one source that are kept apart while they wait.
MOST_WAITING = 50


@dataclass(slots=True)
class Waiting:
    """Denials of one kind: the first line, and how often."""

    line: str
    times: int


@dataclass(slots=True)
class Bucket:
    """One source. ``at``: seconds (monotonic, of this boot) at which ``tokens`` were counted.

    ``waiting``: kind of denial -> what is not recorded yet, oldest first. ``more``: how many of
    further kinds.
    """

    tokens: float = BURST
    at: float = 0.0
    waiting: dict[str, Waiting] = field(default_factory=dict)
    more: int = 0

    def refill(self, now: float) -> None:
        """Until ``now``."""
        self.tokens = min(BURST, self.tokens + max(0.0, now - self.at) / REFILL)
        self.at = now

    def add(self, kind: str, line: str, *, times: int = 1) -> None:
        """``times`` denials of a kind, which wait to be recorded."""
        known = self.waiting.get(kind)
        if known is not None:
            known.times += times
        elif len(self.waiting) < MOST_WAITING:
            self.waiting[kind] = Waiting(line, times)
        else:
            self.more += times

    def take(self) -> bool:
        """Whether one more record may be made; then it must be."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def idle(self) -> bool:
        """Nothing needs to be remembered."""
        return self.tokens >= BURST and not self.waiting and not self.more

    @property
    def ready(self) -> bool:
        """Something waits, and a record may be made."""
        return bool(self.waiting or self.more) and self.tokens >= 1

    @property
    def held(self) -> int:
        """How many denials wait."""
        return sum(each.times for each in self.waiting.values()) + self.more

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "tokens": self.tokens, "at": self.at, "more": self.more,
            "waiting": [[kind, w.line, w.times] for kind, w in self.waiting.items()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bucket:
        """Raises KeyError, TypeError or ValueError on anything else than `to_json` made."""
        waiting = {
            str(kind): Waiting(str(line), int(times)) for kind, line, times in value["waiting"]
        }
        return cls(float(value["tokens"]), float(value["at"]), waiting, int(value["more"]))
