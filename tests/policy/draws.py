"""The small random things that policies are drawn from: names, and parts of sets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeVar

from hypothesis import strategies as st

from shype.policy.grammar import NAME_LIMIT

#: The file name that policies drawn here carry in their spans.
SOURCE = "random.yaml"

#: Plain YAML reads these as booleans or null, so the writer must quote them: let them occur.
_TRAPS = ("no", "on", "y", "null", "true", "e1", "off", "yes", "n")

_T = TypeVar("_T", bound=str)

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def names() -> st.SearchStrategy[str]:
    """A valid name; sometimes one that YAML would misread, sometimes one of full length."""
    words = st.text(ALPHABET + "0123456789", min_size=1, max_size=6)
    made = st.tuples(st.sampled_from(ALPHABET), st.lists(words, min_size=0, max_size=3)).map(
        lambda parts: "-".join([parts[0], *parts[1]])
    )
    longest = st.text(ALPHABET, min_size=NAME_LIMIT, max_size=NAME_LIMIT)
    simple = st.text(ALPHABET, min_size=1, max_size=4)
    return st.one_of(simple, made, st.sampled_from(_TRAPS), longest).filter(
        lambda name: name != "all"
    )


def distinct(low: int, high: int) -> st.SearchStrategy[list[str]]:
    return st.lists(names(), min_size=low, max_size=high, unique=True)


def subset(items: Sequence[_T], most: int) -> st.SearchStrategy[list[_T]]:
    if not items:
        return st.just([])
    return st.lists(st.sampled_from(list(items)), max_size=most, unique=True)


def subsets(items: Sequence[_T]) -> list[frozenset[_T]]:
    """All of them, the empty one first; for a handful of items."""
    return [
        frozenset(chosen) for size in range(len(items) + 1)
        for chosen in combinations(items, size)
    ]


def some(items: Sequence[_T]) -> st.SearchStrategy[frozenset[_T]]:
    """Any subset of a handful of items, in one draw."""
    return st.sampled_from(subsets(items))


def seldom() -> st.SearchStrategy[bool]:
    return st.integers(0, 3).map(lambda number: number == 3)
