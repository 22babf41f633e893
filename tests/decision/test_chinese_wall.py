"""The Chinese Wall: traces computed with sHype's own code, and the laws of start and stop."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.decision.chinese_wall import (
    ChineseWall,
    Conflict,
    NotRunning,
    ReplayConflict,
    WallState,
)
from shype.policy.names import MemberName, WallName

from . import reference_counters


def held(*members: str) -> frozenset[MemberName]:
    """A set of members."""
    return frozenset(map(MemberName, members))


def wall_of(**sets: str) -> ChineseWall:
    """One conflict set per keyword, its members separated by blanks."""
    return ChineseWall({WallName(n): held(*members.split()) for n, members in sets.items()})


#: One step of a trace: + start, - stop, ! start that is denied; the label; then, if the trace
#: tells it, the running counts and the aggregate counts (None: not told).
Step = tuple[str, str, dict[str, int] | None, dict[str, int] | None]

#: 15.1: the users' guide of Xen 3, policy `mytest`: departments carry their bank's type as well.
GUIDE = (
    {
        "orgs": "A-Bank B-Bank __UNLABELED__",
        "departments": "A-Bank.MarketAnalysis A-Bank.SecurityUnderwriting __UNLABELED__",
    },
    {
        "SystemManagement": "SystemManagement", "A-Bank": "A-Bank", "B-Bank": "B-Bank",
        "A-Bank.MarketAnalysis": "A-Bank A-Bank.MarketAnalysis",
        "A-Bank.SecurityUnderwriting": "A-Bank A-Bank.SecurityUnderwriting",
        "AutoCorp": "AutoCorp", "__UNLABELED__": "__UNLABELED__",
    },
    [
        ("+", "SystemManagement", {"SystemManagement": 1}, {}),
        ("+", "A-Bank.MarketAnalysis",
         {"A-Bank": 1, "A-Bank.MarketAnalysis": 1, "SystemManagement": 1},
         {"A-Bank.SecurityUnderwriting": 1, "B-Bank": 1, "__UNLABELED__": 2}),
        ("!", "A-Bank.SecurityUnderwriting", None, None),
        ("+", "A-Bank", None,
         {"A-Bank.SecurityUnderwriting": 1, "B-Bank": 2, "__UNLABELED__": 3}),
        ("!", "B-Bank", None, None),
        ("!", "__UNLABELED__", None, None),
        ("+", "AutoCorp", None, None),
        ("-", "A-Bank.MarketAnalysis", None, {"B-Bank": 1, "__UNLABELED__": 1}),
        ("+", "A-Bank.SecurityUnderwriting", None,
         {"A-Bank.MarketAnalysis": 1, "B-Bank": 2, "__UNLABELED__": 3}),
        ("-", "A-Bank", None, None),
        ("-", "A-Bank.SecurityUnderwriting", None, {}),
        ("+", "B-Bank", None, {"A-Bank": 1, "__UNLABELED__": 1}),
        ("!", "A-Bank.MarketAnalysis", None, None),
    ],
)

#: 15.2: the policy of Xen's own test suite.
XM_TEST = (
    {"RER": "blue red"},
    {"SystemManagement": "SystemManagement", "green": "green", "blue": "blue", "red": "red"},
    [
        ("+", "SystemManagement", None, {}), ("+", "green", None, {}),
        ("+", "blue", None, {"red": 1}), ("!", "red", None, None), ("-", "blue", None, {}),
        ("+", "red", None, {"blue": 1}), ("!", "blue", None, None),
        ("+", "red", {"SystemManagement": 1, "green": 1, "red": 2}, {"blue": 2}),
    ],
)

#: 15.3: a label with two members of one conflict set, which our language rejects: the outcome
#: depends on the order of starts (a second AB is denied by what the first one let in).
ANOMALY = (
    {"C": "A B C"},
    {"AB": "A B", "a": "A", "b": "B", "c": "C"},
    [
        ("+", "AB", {"A": 1, "B": 1}, {"C": 1}), ("+", "a", {"A": 2, "B": 1}, {"B": 1, "C": 2}),
        ("!", "AB", None, None), ("!", "b", None, None), ("!", "c", None, None),
    ],
)

#: 15.4: the trace of the README of 2005; row i holds ti, dom0 is row 0.
README_2005 = (
    {"one": "t2 t3", "two": "t0 t5 t6"},
    {f"row{i}": f"t{i}" for i in range(10)},
    [
        ("+", "row0", {"t0": 1}, {"t5": 1, "t6": 1}),
        ("+", "row1", {"t0": 1, "t1": 1}, {"t5": 1, "t6": 1}),
        ("+", "row2", {"t0": 1, "t1": 1, "t2": 1}, {"t3": 1, "t5": 1, "t6": 1}),
        ("!", "row3", None, None),
    ],
)


@pytest.mark.parametrize(
    ("sets", "labels", "steps"), [GUIDE, XM_TEST, ANOMALY, README_2005],
    ids=["users-guide", "xm-test", "anomaly", "readme-2005"],
)
def test_traces(sets: Mapping[str, str], labels: Mapping[str, str], steps: list[Step]) -> None:
    wall, state = wall_of(**sets), WallState()
    for sign, label, running, aggregate in steps:
        members = held(*labels[label].split())
        if sign == "-":
            state = wall.stop(state, members)
        else:
            outcome = wall.start(state, members)
            assert isinstance(outcome, Conflict) is (sign == "!"), (label, outcome)
            state = state if isinstance(outcome, Conflict) else outcome
        if running is not None:
            assert dict(state.running) == running, label
        if aggregate is not None:
            assert dict(state.aggregate) == aggregate, label


def test_the_conflict_names_the_member_and_the_wall() -> None:
    sets, labels, _ = GUIDE
    wall = wall_of(**sets)
    state = wall.count([held("B-Bank")])
    department = held(*labels["A-Bank.MarketAnalysis"].split())
    assert wall.start(state, department) == Conflict((MemberName("A-Bank"),), (WallName("orgs"),))


def test_two_walls_over_the_same_members_count_twice() -> None:
    wall = wall_of(one="a b", two="a b")
    state = wall.start(WallState(), held("a"))
    assert isinstance(state, WallState)
    assert dict(state.aggregate) == {"b": 2}
    assert wall.stop(state, held("a")) == WallState()
    assert wall.start(state, held("b")) == Conflict(
        (MemberName("b"),), (WallName("one"), WallName("two"))
    )


@pytest.mark.parametrize(
    ("started", "stopped"),
    [((), "a"), (("a",), "b"), (("a",), "a b"), (("a b",), "a"), (("b",), "a b")],
)
def test_stop_of_what_does_not_run_is_an_error(started: tuple[str, ...], stopped: str) -> None:
    wall = wall_of(w="a b c")
    state = wall.count(held(*members.split()) for members in started)
    with pytest.raises(NotRunning) as error:
        wall.stop(state, held(*stopped.split()))
    assert error.value.id == "wall.not-running"


def test_replay_names_the_first_that_cannot_start() -> None:
    wall = wall_of(w="a b")
    outcome = wall.replay([held("a"), held(), held("b"), held("a")])
    assert outcome == ReplayConflict(2, Conflict((MemberName("b"),), (WallName("w"),)))
    assert wall.replay([held("a"), held("a")]) == wall.count([held("a"), held("a")])
    assert wall.replay([]) == WallState()


def test_a_state_is_a_value() -> None:
    wall = wall_of(w="a b")
    first = wall.start(WallState(), held("a"))
    again = wall.count([held("a")])
    assert first == again
    assert hash(first) == hash(again)
    assert first != WallState()
    assert wall.start(again, held("b")) == Conflict((MemberName("b"),), (WallName("w"),))
    assert first == again, "a denied start changes nothing"


MEMBER_SETS = st.frozensets(st.sampled_from("abcde").map(MemberName), max_size=3)
WALLS = st.dictionaries(
    st.sampled_from(["u", "v", "w", "x"]).map(WallName),
    st.frozensets(st.sampled_from("abcde").map(MemberName), min_size=2, max_size=4),
    max_size=4,
)
Sets = dict[WallName, frozenset[MemberName]]


@given(WALLS, st.lists(MEMBER_SETS, max_size=6), MEMBER_SETS)
def test_stop_undoes_start(
    sets: Sets, running: list[frozenset[MemberName]], new: frozenset[MemberName]
) -> None:
    """Holds for every label, also for those that the language rejects."""
    wall = ChineseWall(sets)
    state = wall.count(running)
    outcome = wall.start(state, new)
    if isinstance(outcome, WallState):
        assert wall.stop(outcome, new) == state
    assert wall.stop(wall.account(state, new), new) == state


@given(WALLS, st.lists(MEMBER_SETS, max_size=6), st.data())
def test_counters_do_not_depend_on_the_order(
    sets: Sets, running: list[frozenset[MemberName]], data: st.DataObject
) -> None:
    wall = ChineseWall(sets)
    other = data.draw(st.permutations(running))
    state = wall.count(running)
    assert wall.count(other) == state
    assert dict(state.running) == reference_counters.running_counts(running)
    assert dict(state.aggregate) == reference_counters.aggregate_counts(sets.values(), running)
    assert all(count > 0 for count in (*state.running.values(), *state.aggregate.values()))
    for members in other:
        state = wall.stop(state, members)
    assert state == WallState()


@given(WALLS, st.lists(MEMBER_SETS, max_size=6))
def test_replay_is_start_after_start(sets: Sets, running: list[frozenset[MemberName]]) -> None:
    wall = ChineseWall(sets)
    outcome = wall.replay(running)
    if isinstance(outcome, WallState):
        assert outcome == wall.count(running)
    else:
        before = wall.replay(running[: outcome.position])
        assert isinstance(before, WallState)
        assert wall.start(before, running[outcome.position]) == outcome.conflict


@given(WALLS, st.lists(MEMBER_SETS, max_size=6), MEMBER_SETS)
def test_a_conflict_names_members_and_walls_that_exclude(
    sets: Sets, running: list[frozenset[MemberName]], new: frozenset[MemberName]
) -> None:
    wall = ChineseWall(sets)
    outcome = wall.start(wall.count(running), new)
    if isinstance(outcome, Conflict):
        assert outcome.members
        assert set(outcome.members) <= new
        excluding = {
            (member, name)
            for member in outcome.members
            for members in running
            for name, _ in wall.excluders(member, members)
        }
        assert {member for member, _ in excluding} == set(outcome.members)
        assert {name for _, name in excluding} <= set(outcome.walls)
