"""Levels as the hypervisor knows them: a sensitivity and a set of categories, and ranges of them.

Names are fixed: ``s0`` is the lowest sensitivity, ``c0`` the first category.
The text is what Xen prints (mls_sid_to_context() in xen/xsm/flask/ss/mls.c),
so that a context can be compared as text with what `xl list -Z` shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LEVEL = re.compile(r"s(\d+)(?::(.+))?")
_RUN = re.compile(r"c(\d+)(?:\.c(\d+))?")


@dataclass(frozen=True, slots=True)
class MlsLevel:
    """``rank`` is the number of the sensitivity; bit i of ``categories`` stands for ``ci``."""

    rank: int
    categories: int = 0

    def dominates(self, other: MlsLevel) -> bool:
        """The hypervisor's `dom`: mls_level_dom()."""
        return self.rank >= other.rank and other.categories & ~self.categories == 0

    def __str__(self) -> str:
        runs = [_spell(first, last) for first, last in _runs(self.categories)]
        return f"s{self.rank}:{','.join(runs)}" if runs else f"s{self.rank}"

    @property
    def cil(self) -> str:
        """``(s1 (c0 c3))``."""
        names = " ".join(f"c{i}" for i in _bits(self.categories))
        return f"(s{self.rank} ({names}))" if names else f"(s{self.rank})"


@dataclass(frozen=True, slots=True)
class MlsRange:
    """From ``low`` to ``high``; of a single level, both are the same."""

    low: MlsLevel
    high: MlsLevel

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    @property
    def cil(self) -> str:
        """``((s0) (s1 (c0)))``."""
        return f"({self.low.cil} {self.high.cil})"


def parse_level(text: str) -> MlsLevel:
    """``s1:c0,c2.c4``. Raises ValueError."""
    match = _LEVEL.fullmatch(text)
    if match is None:
        raise ValueError(f"not a level: {text!r}")
    categories = 0
    for run in (match[2] or "").split(",") if match[2] else ():
        ends = _RUN.fullmatch(run)
        if ends is None:
            raise ValueError(f"not a set of categories: {run!r}")
        first = int(ends[1])
        last = int(ends[2] or first)
        if last < first:
            raise ValueError(f"not a run of categories: {run!r}")
        categories |= (1 << last + 1) - (1 << first)
    return MlsLevel(int(match[1]), categories)


def parse_range(text: str) -> MlsRange:
    """``s0``, ``s0-s1:c0`` or, as SETools writes it, ``s0 - s1:c0``. Raises ValueError."""
    low, dash, high = text.replace(" ", "").partition("-")
    first = parse_level(low)
    return MlsRange(first, parse_level(high) if dash else first)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    first = last = -2
    for bit in _bits(mask):
        if bit != last + 1:
            if first >= 0:
                yield first, last
            first = bit
        last = bit
    if first >= 0:
        yield first, last


def _spell(first: int, last: int) -> str:
    """Two neighbours are a list, three or more a run, as Xen has it."""
    if first == last:
        return f"c{first}"
    return f"c{first}{',' if last == first + 1 else '.'}c{last}"
