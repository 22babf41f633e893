"""Levels form a lattice, and information flows by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.decision.rights import Rights, flows
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import SWITCHABLE
from shype.policy.names import CategoryName, SensitivityName
from shype.policy.source import Span

CATEGORIES = tuple(map(CategoryName, "xyz"))
LATTICE = Lattice(
    tuple(map(SensitivityName, ("low", "mid", "high", "top"))), CATEGORIES, Span("t", 1, 1),
)
#: Few enough that equal, comparable and incomparable pairs are all frequent.
LEVELS = st.builds(
    Level, st.integers(0, 3), st.sets(st.sampled_from(CATEGORIES)).map(frozenset),
)
ALL = [
    Level(rank, frozenset(c for i, c in enumerate(CATEGORIES) if bits >> i & 1))
    for rank in range(4) for bits in range(8)
]


def test_a_partial_order_over_all_points() -> None:
    for a in ALL:
        assert a.dominates(a)
        assert LATTICE.top.dominates(a)
        assert a.dominates(LATTICE.bottom)
        assert LATTICE.contains(a)
        for b in ALL:
            if a.dominates(b) and b.dominates(a):
                assert a == b
    assert not LATTICE.contains(Level(4))
    assert not LATTICE.contains(Level(0, frozenset({CategoryName("w")})))


@given(LEVELS, LEVELS, LEVELS)
def test_transitive(a: Level, b: Level, c: Level) -> None:
    if a.dominates(b) and b.dominates(c):
        assert a.dominates(c)


@given(LEVELS, LEVELS, LEVELS)
def test_join_and_meet_obey_the_laws(a: Level, b: Level, c: Level) -> None:
    assert a.join(a) == a.meet(a) == a
    assert a.join(b) == b.join(a)
    assert a.meet(b) == b.meet(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.meet(b).meet(c) == a.meet(b.meet(c))
    assert a.join(a.meet(b)) == a.meet(a.join(b)) == a
    assert a.meet(LATTICE.top) == a.join(LATTICE.bottom) == a
    assert a.join(LATTICE.top) == LATTICE.top
    assert a.meet(LATTICE.bottom) == LATTICE.bottom


@given(LEVELS, LEVELS)
def test_join_is_the_least_upper_bound_and_meet_the_greatest_lower(a: Level, b: Level) -> None:
    above = [level for level in ALL if level.dominates(a) and level.dominates(b)]
    below = [level for level in ALL if a.dominates(level) and b.dominates(level)]
    assert a.join(b) in above
    assert all(level.dominates(a.join(b)) for level in above)
    assert a.meet(b) in below
    assert all(a.meet(b).dominates(level) for level in below)
    assert a.dominates(b) is (a.join(b) == a) is (a.meet(b) == b)


def rights(level: Level, integrity: Level, high: Level | None = None) -> Rights:
    """One level of each lattice, or up to ``high``."""
    return Rights(
        frozenset(), SWITCHABLE, LevelRange(level, high or level), LevelRange(integrity, integrity),
    )


@given(*[LEVELS] * 6)
def test_flow_is_an_order_of_single_levels(
    a: Level, b: Level, c: Level, ia: Level, ib: Level, ic: Level
) -> None:
    one, two, three = rights(a, ia), rights(b, ib), rights(c, ic)
    assert flows(one, one)
    if flows(one, two) and flows(two, three):
        assert flows(one, three)
    assert (flows(one, two) and flows(two, one)) is ((a, ia) == (b, ib))
    assert flows(one, two) is (b.dominates(a) and ia.dominates(ib))


@given(LEVELS, LEVELS, LEVELS)
def test_a_range_takes_part_with_the_end_that_permits_more(a: Level, b: Level, c: Level) -> None:
    trusted, other = rights(a.meet(b), a, a.join(b)), rights(c, a)
    assert flows(other, trusted) is a.join(b).dominates(c)
    assert flows(trusted, other) is c.dominates(a.meet(b))


def test_levels_by_name() -> None:
    level = LATTICE.level("mid", ["z", "x"])
    assert level == Level(1, frozenset({CategoryName("x"), CategoryName("z")}))
    assert LATTICE.show(level) == "mid {x, z}"
    assert LATTICE.show_range(LevelRange(Level(0), level)) == "low to mid {x, z}"
    assert LATTICE.show_range(LevelRange(level, level)) == "mid {x, z}"
    assert LevelRange(level, level).single
    assert not LevelRange(Level(0), level).single
    for names in (("other", []), ("mid", ["w"])):
        with pytest.raises(ValueError):
            LATTICE.level(*names)
