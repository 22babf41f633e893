"""Sets of numbers as integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shype.base import bits


@given(st.sets(st.integers(0, 300)))
def test_bits(numbers: set[int]) -> None:
    made = bits.of(numbers)
    assert list(bits.each(made)) == sorted(numbers)
    assert made == sum(1 << n for n in numbers)
    if numbers:
        assert bits.first(made) == min(numbers)
    rows = [made, 0, 1]
    assert bits.transposed(bits.transposed(rows, 301), 3) == rows
