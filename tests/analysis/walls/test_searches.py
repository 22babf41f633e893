"""The searches on graphs that are larger and wilder than small policies give."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.walls.budget import STEPS, Budget
from shype.analysis.walls.maximal import cliques, connected, renumbered
from shype.analysis.walls.placing import colouring, greedy
from shype.analysis.walls.starving import fewest
from shype.base import bits
from shype.policy.names import LabelName

FEW = settings(max_examples=80, deadline=None)


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> list[int]:
    """Rows of an undirected graph without loops."""
    size = draw(st.integers(0, most))
    pairs = [(a, b) for a in range(size) for b in range(a)]
    edges = draw(st.integers(0, 2 ** len(pairs) - 1))
    rows = [0] * size
    for i, (a, b) in enumerate(pairs):
        if edges >> i & 1:
            rows[a] |= 1 << b
            rows[b] |= 1 << a
    return rows


def proper(rows: list[int], colours: tuple[int, ...] | list[int]) -> bool:
    """No edge has two ends of one colour."""
    return not any(
        colours[a] == colours[b] for a, row in enumerate(rows) for b in bits.each(row)
    )


@FEW
@given(graphs())
def test_cliques(rows: list[int]) -> None:
    found = list(cliques(rows, Budget()))
    every = [
        s for s in range(2 ** len(rows))
        if all(s & ~rows[v] == 1 << v for v in bits.each(s))
    ]
    assert sorted(found) == sorted(
        s for s in every if s and not any(s != o and s & o == s for o in every)
    )


@FEW
@given(graphs(6), st.data())
def test_colouring_with_colours_of_some_kinds(rows: list[int], data: st.DataObject) -> None:
    kinds = data.draw(st.sampled_from([[0], [0, 0], [0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2]]))
    # Colours of one kind are allowed to the same vertices.
    allowed = [
        bits.of(c for c, kind in enumerate(kinds) if choice >> kind & 1)
        for choice in data.draw(
            st.lists(st.integers(0, 7), min_size=len(rows), max_size=len(rows)))
    ]
    every = [
        c for c in product(range(len(kinds)), repeat=len(rows))
        if proper(rows, c) and all(allowed[v] >> x & 1 for v, x in enumerate(c))
    ]
    found = colouring(rows, allowed, kinds, Budget())
    assert (found is not None) == bool(every)
    assert found is None or tuple(found) in every


def first_colouring(rows: list[int], allowed: list[int], so_far: list[int]) -> list[int] | None:
    """By trying everything in order."""
    vertex = len(so_far)
    if vertex == len(rows):
        return so_far
    for colour in bits.each(allowed[vertex]):
        if all(so_far[other] != colour for other in range(vertex) if rows[vertex] >> other & 1):
            found = first_colouring(rows, allowed, [*so_far, colour])
            if found is not None:
                return found
    return None


def test_colourings_that_need_many_attempts() -> None:
    chance = Random(1)
    known: Counter[bool] = Counter()
    for _ in range(300):
        size = 12
        rows = [0] * size
        for a in range(size):
            for b in range(a):
                if chance.random() < 0.42:
                    rows[a] |= 1 << b
                    rows[b] |= 1 << a
        allowed = [bits.of(chance.sample(range(4), 3)) for _ in rows]
        wanted = first_colouring(rows, allowed, [])
        found = colouring(rows, allowed, [0, 1, 2, 3], Budget())
        assert (found is None) == (wanted is None)
        assert found is None or proper(rows, found)
        assert found is None or all(allowed[v] >> c & 1 for v, c in enumerate(found))
        known[wanted is None] += 1
    assert min(known.values()) > 30, known


#: The Groetzsch graph: no triangle, and three colours are not enough.
GROETZSCH = [
    *((i, (i + 1) % 5) for i in range(5)),
    *((5 + i, (i + d) % 5) for i in range(5) for d in (1, 4)),
    *((10, 5 + i) for i in range(5)),
]


def test_a_graph_that_only_a_search_through_all_colourings_decides() -> None:
    rows = [0] * 11
    for a, b in GROETZSCH:
        rows[a] |= 1 << b
        rows[b] |= 1 << a
    assert colouring(rows, [0b111] * 11, [0] * 3, Budget()) is None
    four = colouring(rows, [0b1111] * 11, [0] * 4, Budget())
    assert four is not None
    assert proper(rows, four)
    # Without kinds, the same by trying all names of colours.
    assert colouring(rows, [0b111] * 11, [0, 1, 2], Budget()) is None


@FEW
@given(graphs())
def test_greedy_colours_are_proper_and_without_gaps(rows: list[int]) -> None:
    found = greedy(rows)
    assert proper(rows, found)
    assert {*found} == {*range(max(found, default=-1) + 1)}


def test_a_graph_of_many_edges_is_coloured_too() -> None:
    chance = Random(2)
    rows = [0] * 850
    for a in range(850):
        for b in range(a):
            if a % 7 != b % 7 and chance.random() < 0.9:
                rows[a] |= 1 << b
                rows[b] |= 1 << a
    found = greedy(rows)
    assert proper(rows, found)
    assert {*found} == {*range(max(found) + 1)}
    assert max(found) < 90


@FEW
@given(graphs(), st.data())
def test_renumbered_columns(rows: list[int], data: st.DataObject) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, 8))))
    wanted = [bits.of(i for i, old in enumerate(kept) if row >> old & 1) for row in rows]
    assert renumbered(rows, kept) == wanted


def test_renumbered_columns_in_many_runs() -> None:
    chance, kept = Random(3), list(range(0, 600, 2))
    rows = [chance.getrandbits(600) for _ in range(20)]
    assert renumbered(rows, kept) == [
        bits.of(i for i, old in enumerate(kept) if row >> old & 1) for row in rows]


@FEW
@given(graphs())
def test_connected_parts(rows: list[int]) -> None:
    parts = list(connected(rows))
    assert sorted(v for part in parts for v in part) == list(range(len(rows)))
    for part in parts:
        within, seen = bits.of(part), 1 << part[0]
        for _ in part:
            for v in bits.each(seen):
                assert not rows[v] & ~within
                seen |= rows[v]
        assert seen == within


NAMES = [LabelName(name) for name in "abcdef"]


@FEW
@given(st.lists(st.sets(st.sampled_from(NAMES), min_size=1), max_size=6))
def test_fewest_names_that_hit_all(wanted: list[set[LabelName]]) -> None:
    found, exact = fewest([sorted(names) for names in wanted], Budget(STEPS))
    assert exact
    assert all(names & {*found} for names in wanted)
    best = min(
        choice.bit_count() for choice in range(2 ** len(NAMES))
        if all(any(choice >> NAMES.index(n) & 1 for n in names) for names in wanted)
    )
    assert len(found) == best


def test_fewest_is_not_what_a_greedy_choice_gives() -> None:
    wanted = [list(map(LabelName, names)) for names in ("ga", "ga", "gb", "gb", "ca", "cb", "da")]
    wanted = [[*names, LabelName("x")] if "g" in names else names for names in wanted]
    assert fewest(wanted, Budget(1)) [1] is False
    assert len(fewest(wanted, Budget())[0]) == 2
