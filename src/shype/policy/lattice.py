"""Levels: ordered sensitivities with unordered categories, and the lattice that they form.

A level is a pair (rank, categories); one dominates another if its rank is at
least as high and its categories include the other's (Bell and LaPadula, MITRE
MTR-2547, 1973; Denning, "A lattice model of secure information flow", CACM
1976).  The same values serve confidentiality and integrity (Biba, MITRE
MTR-3153, 1977); only the direction in which information may flow differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shype.policy.names import CategoryName, SensitivityName
from shype.policy.source import Span


@dataclass(frozen=True, slots=True)
class Level:
    """A point of the lattice. ``rank`` counts from 0, the lowest sensitivity."""

    rank: int
    categories: frozenset[CategoryName] = frozenset()

    def dominates(self, other: Level) -> bool:
        """At least as high a rank, and all categories of ``other``. A partial order."""
        return self.rank >= other.rank and self.categories >= other.categories

    def join(self, other: Level) -> Level:
        """The lowest level that dominates both."""
        return Level(max(self.rank, other.rank), self.categories | other.categories)

    def meet(self, other: Level) -> Level:
        """The highest level that both dominate."""
        return Level(min(self.rank, other.rank), self.categories & other.categories)


@dataclass(frozen=True, slots=True)
class LevelRange:
    """From ``low`` to ``high``, which dominates it. A single level if both are equal."""

    low: Level
    high: Level

    @property
    def single(self) -> bool:
        """Whether it holds one level: its carrier is not trusted to keep levels apart."""
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Lattice:
    """The sensitivities, lowest first, and the categories of a policy, both in file order."""

    order: tuple[SensitivityName, ...]
    categories: tuple[CategoryName, ...]
    span: Span

    @property
    def bottom(self) -> Level:
        """The level that every other dominates."""
        return Level(0)

    @property
    def top(self) -> Level:
        """The level that dominates every other."""
        return Level(len(self.order) - 1, frozenset(self.categories))

    def level(self, sensitivity: str, categories: Iterable[str] = ()) -> Level:
        """The level of these names. Raises ValueError for one that the lattice has not."""
        chosen = frozenset(CategoryName(name) for name in categories)
        if not chosen <= frozenset(self.categories):
            raise ValueError(f"no category {', '.join(sorted(chosen - {*self.categories}))}")
        return Level(self.order.index(SensitivityName(sensitivity)), chosen)

    def contains(self, level: Level) -> bool:
        """Whether ``level`` is a point of this lattice."""
        known = frozenset(self.categories)
        return 0 <= level.rank < len(self.order) and level.categories <= known

    def show(self, level: Level) -> str:
        """``secret``, or ``secret {crew, finance}`` with the categories in the policy's order."""
        held = [name for name in self.categories if name in level.categories]
        return self.order[level.rank] + (f" {{{', '.join(held)}}}" if held else "")

    def show_range(self, levels: LevelRange) -> str:
        """``secret``, or ``internal to secret {crew}``."""
        low = self.show(levels.low)
        return low if levels.single else f"{low} to {self.show(levels.high)}"
