"""A relation between types, turned around."""

from __future__ import annotations

from collections.abc import Iterable

from shype.base import bits


def turned(rows: Iterable[int], width: int) -> list[int]:
    """Column j has bit i where row i has bit j.

    Rows of a policy are alike in groups (labels of one coalition, types of one
    attribute), and a group costs no more than one of its rows.
    """
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        if row:
            groups.setdefault(row, []).append(index)
    found = [0] * width
    for row, indices in groups.items():
        sources = bits.of(indices)
        for index in bits.each(row):
            found[index] |= sources
    return found
