"""Sets of small numbers as the bits of a Python int."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def mask(numbers: Iterable[int]) -> int:
    """The set of ``numbers`` (each from 0) as bits."""
    result = 0
    for number in numbers:
        result |= 1 << number
    return result


def members(bits: int) -> Iterator[int]:
    """The numbers whose bits are set, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
