"""Sets of small numbers as Python integers: bit n is set iff n is in the set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: From so many on, a union of sets is quicker than listing their members.
_MANY = 8


def of(numbers: Iterable[int]) -> int:
    """The set of ``numbers`` (each at least 0)."""
    some = list(numbers)
    if len(some) < 4:
        found = 0
        for number in some:
            found |= 1 << number
        return found
    # One write per number: shifting a long integer for each would be quadratic.
    octets = bytearray((max(some) >> 3) + 1)
    for number in some:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def each(bits: int) -> Iterator[int]:
    """The numbers in the set, ascending."""
    if bits.bit_count() * 100 < bits.bit_length() + 400:
        # Few in a long row: going through its octets would take longer.
        while bits:
            low = bits & -bits
            yield low.bit_length() - 1
            bits ^= low
        return
    octets = bits.to_bytes((bits.bit_length() + 7) >> 3, "little")
    for index, octet in enumerate(octets):
        while octet:
            low = octet & -octet
            yield (index << 3) + low.bit_length() - 1
            octet ^= low


def first(bits: int) -> int:
    """The least number in the set, which must not be empty."""
    return (bits & -bits).bit_length() - 1


def transposed(rows: Iterable[int], width: int) -> list[int]:
    """The rows of the transposed matrix: ``width`` rows, bit i of row j = bit j of row i.

    Rows that are alike, as those of labels in one coalition, cost little more than one of them.
    """
    alike: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        if row:
            alike.setdefault(row, []).append(index)
    few: list[list[int]] = [[] for _ in range(width)]
    many = [0] * width
    for row, indices in alike.items():
        if len(indices) < _MANY:
            for number in each(row):
                few[number] += indices
        else:
            sources = of(indices)
            for number in each(row):
                many[number] |= sources
    return [some | of(others) for some, others in zip(many, few, strict=True)]
