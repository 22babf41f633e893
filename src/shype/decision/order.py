"""Dominance between many levels at once, as sets of bits.

A level dominates another if its rank is at least as high and it holds all of
its categories (`shype.policy.lattice`). So those that dominate a level are the
intersection of a set per rank and a set per category.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from shype.base import bits
from shype.policy.lattice import Level, LevelRange


class Order:
    """Ranges of levels, numbered as given; None for what has no level and is in no set.

    Each question costs some operations on long integers, and is answered
    once, however many levels there are.
    """

    def __init__(self, held: Sequence[LevelRange | None]) -> None:
        self._high = _Side([None if r is None else r.high for r in held])
        self._low = _Side([None if r is None else r.low for r in held])
        self._known: dict[tuple[Level, bool], int] = {}

    def above(self, level: Level) -> int:
        """The set of ranges whose high end dominates ``level``."""
        key = level, True
        if key not in self._known:
            found = self._high.from_rank(level.rank)
            for category in level.categories:
                found &= self._high.having.get(category, 0)
            self._known[key] = found
        return self._known[key]

    def below(self, level: Level) -> int:
        """The set of ranges whose low end ``level`` dominates."""
        key = level, False
        if key not in self._known:
            found = self._low.from_rank(0) & ~self._low.from_rank(level.rank + 1)
            for category, having in self._low.having.items():
                if category not in level.categories:
                    found &= ~having
            self._known[key] = found
        return self._known[key]


class _Side:
    """One end of each range, by rank and by category."""

    def __init__(self, levels: Sequence[Level | None]) -> None:
        held = [(n, level) for n, level in enumerate(levels) if level is not None]
        ranks: dict[int, list[int]] = defaultdict(list)
        categories: dict[str, list[int]] = defaultdict(list)
        for number, level in held:
            ranks[level.rank].append(number)
            for category in level.categories:
                categories[category].append(number)
        self._ranks = sorted((rank, bits.of(some)) for rank, some in ranks.items())
        #: Those that hold a category.
        self.having = {name: bits.of(some) for name, some in categories.items()}

    def from_rank(self, rank: int) -> int:
        """Those of that rank or a higher one."""
        found = 0
        for one, some in self._ranks:
            if one >= rank:
                found |= some
        return found
