"""Coexistence against a search of all states; traces replayed by the rule itself."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.walls.coexistence import State, Walls
from shype.base.errors import BadInput
from shype.decision.chinese_wall import ChineseWall, ReplayConflict
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName, MemberName, WallName
from tests.analysis.policies import policy
from tests.decision.small_policies import small_policies

from .naive import Search

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CHAIN = """\
shype: 1
policy: {name: chain, version: "1.0"}
coalitions: [c]
walls: {first: [a, c], second: [b, d]}
labels:
  host: {coalitions: all}
  la: {coalitions: [c], wall: [a]}
  lb: {coalitions: [c], wall: [b]}
  lc: {coalitions: [c], wall: [c]}
  ld: {coalitions: [c], wall: [d]}
  free: {coalitions: [c]}
host: {dom0: host}
retired: {gone: {wall: [a, c, b]}}
"""


def walls(found: Policy) -> Walls:
    """The model of a policy."""
    return Walls(SecurityServer(found))


def names(*words: str) -> tuple[LabelName, ...]:
    """Label names."""
    return tuple(map(LabelName, words))


@settings(max_examples=40, deadline=None)
@given(small_policies(levels=False))
def test_a_set_is_reachable_iff_a_search_of_all_states_finds_it(found: Policy) -> None:
    made, search = walls(found), Search(found)
    everyone = [*found.labels, *found.retired]
    for size in range(len(everyone) + 1):
        for chosen in combinations(everyone, size):
            assert made.reachable(chosen) == (frozenset(chosen) in search.sets), chosen
    for a, b in product(everyone, repeat=2):
        assert made.coexist(a, b) == (frozenset((a, b)) in search.sets)


@settings(max_examples=8, deadline=None)
@given(small_policies(levels=False))
def test_a_second_vm_of_a_label_changes_no_set_that_runs(found: Policy) -> None:
    assert Search(found, copies=2).sets == Search(found).sets


@settings(max_examples=40, deadline=None)
@given(small_policies(levels=False))
def test_two_labels_coexist_iff_the_server_says_so(found: Policy) -> None:
    server = SecurityServer(found)
    made = Walls(server)
    for a, b in product(found.labels, repeat=2):
        assert made.coexist(a, b) == server.together(a, b).permitted


@settings(max_examples=40, deadline=None)
@given(small_policies(levels=False), st.data())
def test_a_trace_can_be_replayed_and_its_carriers_stay(found: Policy, data: st.DataObject) -> None:
    made = walls(found)
    path = data.draw(st.lists(st.sampled_from([*found.labels]), min_size=2, max_size=5))
    apart = data.draw(st.sets(st.integers(0, len(path) - 2)))
    search = Search(found)
    if not made.possible(path, apart):
        assert any(
            frozenset(path[i:i + 2]) not in search.sets for i in range(len(path) - 1)
            if i not in apart
        )
        with pytest.raises(BadInput, match=r"walls\.never-together"):
            made.trace(path, apart)
        return
    states = made.trace(path, apart)
    replay(search, states)
    assert sorted({state.step for state in states}) == list(range(len(path) - 1))
    for i, (before, state) in enumerate(zip((None, *states), states, strict=False)):
        ends = path[state.step:state.step + 2]
        if sum(other.step == state.step for other in states) == 1:
            assert {*ends} <= {*state.running}
        else:
            assert state.step in apart
            first = before is None or before.step != state.step
            assert ends[not first] in state.running
        assert all(
            any(not made.coexist(name, end) for end in state.started) for name in state.stopped
        ), "stopped without need"
        if before is not None and before.step != state.step:
            assert ends[0] in before.running
            assert ends[0] not in state.stopped, "the carrier stopped"
        assert i or not state.stopped


def replay(search: Search, states: tuple[State, ...]) -> None:
    """Do what the states say, by the rule alone; every start must be permitted."""
    running: list[str] = []
    for state in states:
        for name in state.stopped:
            running.remove(name)
        for name in state.started:
            assert search.may_start(running, name)
            running.append(name)
        assert running == [*state.running]


def test_information_crosses_a_wall_over_time() -> None:
    made = walls(policy(CHAIN))
    assert not made.coexist(*names("la", "lc"))
    path = names("la", "free", "lc")
    assert made.possible(path)
    assert not made.reachable(path)
    assert made.trace(path) == (
        State(names("la", "free"), names("la", "free"), (), 0),
        State(names("free", "lc"), names("lc"), names("la"), 1),
    )


def test_a_step_by_a_disk_needs_no_common_state() -> None:
    made = walls(policy(CHAIN))
    path = names("la", "lc", "lb")
    assert not made.possible(path)
    assert [(s.step, s.running) for s in made.trace(path, apart={0})] == [
        (0, names("la")), (0, names("lc")), (1, names("lc", "lb")),
    ]
    assert made.trace(path, apart={0})[1].stopped == names("la")


def test_a_retired_label_that_holds_several_of_a_wall_excludes_the_rest_of_it() -> None:
    made = walls(policy(CHAIN))
    beside = [name for name in made.of if made.coexist(LabelName("gone"), name)]
    assert beside == [*names("host", "la", "lb", "lc", "free", "gone")]
    assert not made.possible(names("free", "gone"))
    with pytest.raises(BadInput, match="retired"):
        made.trace(names("free", "gone"))


def test_unknown_labels_are_refused() -> None:
    made = walls(policy(CHAIN))
    for call in (made.reachable, made.possible, made.trace):
        with pytest.raises(BadInput, match=r"label\.unknown"):
            call(names("la", "nobody"))


def test_labels_with_the_same_members_are_one_class() -> None:
    made = walls(load(EXAMPLES / "banks.yaml").policy)
    assert made.names == (
        names("manager", "market-data"), names("bank-a-db", "bank-a-desk"),
        names("bank-b-db", "bank-b-desk"),
    )
    assert made.beside == (0b111, 0b011, 0b101)


#: Of three sets of members, any two can run together and all three never.
CYCLE = ({"u": "x1 x2", "v": "y1 y2", "w": "z1 z2"}, ("x1 z1 z2", "x1 x2 y1", "y1 y2 z1"))


def test_pairs_do_not_decide_for_labels_that_the_language_rejects() -> None:
    sets, held = CYCLE
    wall = ChineseWall({WallName(w): frozenset(map(MemberName, m.split()))
                        for w, m in sets.items()})
    a, b, c = (frozenset(map(MemberName, m.split())) for m in held)

    def ever(*labels: frozenset[MemberName]) -> bool:
        from itertools import permutations
        return any(not isinstance(wall.replay(p), ReplayConflict) for p in permutations(labels))

    assert ever(a, b)
    assert ever(b, c)
    assert ever(a, c)
    assert not ever(a, b, c)
