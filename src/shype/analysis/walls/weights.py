"""Sums over sets of vertices, without looking at each."""

from __future__ import annotations

from collections.abc import Sequence

from shype.base import bits


class Weights:
    """``counts``: what each vertex counts, at least 0."""

    def __init__(self, counts: Sequence[int]) -> None:
        #: Bit i of it: the vertices with bit i in their count.
        self._digits = [
            bits.of(n for n, count in enumerate(counts) if count >> i & 1)
            for i in range(max(counts, default=0).bit_length())
        ]

    def of(self, vertices: int) -> int:
        """The sum of the counts of ``vertices`` (bits)."""
        return sum((vertices & digit).bit_count() << i for i, digit in enumerate(self._digits))
