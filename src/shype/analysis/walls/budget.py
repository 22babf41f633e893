"""How much a search may do before it says that its answer is only a bound."""

from __future__ import annotations

#: Steps of one search. Counted, not timed, so that the same question has the same answer
#: everywhere; about a second.
STEPS = 1_000_000


class Budget:
    """Counts the steps of a search; ``spent`` once there were more than ``steps``."""

    def __init__(self, steps: int = STEPS) -> None:
        self._left = steps

    @property
    def spent(self) -> bool:
        """Whether the search must end."""
        return self._left < 0

    def covers(self, steps: int) -> bool:
        """Whether as many as ``steps`` are left; if not, all count as taken."""
        if self._left < steps:
            self._left = -1
        return not self.spent

    def take(self, steps: int = 1) -> bool:
        """Count ``steps``; whether the search may go on."""
        self._left -= steps
        return self._left >= 0
