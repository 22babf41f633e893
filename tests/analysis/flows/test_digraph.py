"""The graph engine against definitions written down naively."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.flows.digraph import Digraph, Path
from shype.base import bits

Edges = set[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> tuple[int, Edges]:
    n = draw(st.integers(1, most))
    vertex = st.integers(0, n - 1)
    return n, draw(st.sets(st.tuples(vertex, vertex), max_size=3 * n))


def digraph(n: int, edges: Edges) -> Digraph:
    return Digraph([bits.of(b for a, b in edges if a == v) for v in range(n)])


def reach(n: int, edges: Edges) -> Edges:
    """The transitive closure, pair by pair until nothing is new."""
    found = set(edges)
    while True:
        more = {(a, d) for a, b in found for c, d in found if b == c} - found
        if not more:
            return found
        found |= more


def simple_paths(n: int, edges: Edges, source: int, sink: int) -> set[Path]:
    """All paths that visit no vertex twice (a cycle may return to where it began)."""
    between = [v for v in range(n) if v not in (source, sink)]
    return {
        (source, *inner, sink)
        for size in range(len(between) + 1)
        for inner in permutations(between, size)
        if all(step in edges for step in pairwise((source, *inner, sink)))
    }


def skips(path: Path, edges: Edges) -> bool:
    """Whether an edge leads from a vertex of the path past the next one."""
    last = len(path) - 1
    return any(
        (path[i], path[j]) in edges
        for i in range(last + 1) for j in range(i + 2, last + 1)
        if not (path[0] == path[last] and (i, j) == (0, last))
    )


@given(graphs(9))
@settings(max_examples=100, deadline=None)
def test_closure_and_components(graph: tuple[int, Edges]) -> None:
    n, edges = graph
    closed, pairs = digraph(n, edges), reach(*graph)
    assert {(a, b) for a in range(n) for b in bits.each(closed.closure()[a])} == pairs
    parts = closed.components()
    assert sorted(v for part in parts for v in bits.each(part)) == list(range(n))
    number = {v: i for i, part in enumerate(parts) for v in bits.each(part)}
    for a in range(n):
        for b in range(n):
            mutual = a == b or ((a, b) in pairs and (b, a) in pairs)
            assert (number[a] == number[b]) is mutual
            if (a, b) in pairs:
                assert number[b] <= number[a], "a component stands before what it reaches"


@given(graphs(6), st.data())
@settings(max_examples=100, deadline=None)
def test_paths(graph: tuple[int, Edges], data: st.DataObject) -> None:
    n, edges = graph
    source, sink = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    every = simple_paths(n, edges, source, sink)
    made = digraph(n, edges)
    least = min(map(len, every), default=0)
    shortest = list(made.all_shortest(source, sink))
    assert sorted(shortest) == sorted(p for p in every if len(p) == least)
    assert made.shortest(source, sink) == (shortest[0] if shortest else None)
    minimal = list(made.minimal(source, sink))
    assert len(minimal) == len({*minimal})
    if source != sink:
        assert {*minimal} == {p for p in every if not skips(p, edges)}
    else:
        assert {*minimal} <= every
        assert bool(minimal) is bool(every)
        assert {p for p in every if len(p) == least} <= {*minimal}


def test_a_long_chain_and_a_long_cycle_need_no_recursion() -> None:
    n = 5000
    chain = Digraph([1 << v + 1 for v in range(n - 1)] + [0])
    assert chain.closure()[0] == (1 << n) - 2
    assert chain.closure()[n - 1] == 0
    order = Digraph([(1 << v) - 1 for v in range(n)])
    assert order.closure() == order.rows, "twelve million edges, and each vertex a component"
    cycle = Digraph([1 << (v + 1) % n for v in range(n)])
    assert cycle.components() == ((1 << n) - 1,)
    assert {*cycle.closure()} == {(1 << n) - 1}


def test_the_first_of_many_minimal_paths_comes_at_once() -> None:
    """Forty diamonds in a row have 2**40 minimal paths."""
    rows: list[int] = []
    for at in range(0, 120, 3):
        rows += [0b110 << at, 1 << at + 3, 1 << at + 3]
    found = next(Digraph([*rows, 0]).minimal(0, 120))
    assert len(found) == 81


def test_an_edge_to_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="not there"):
        Digraph([2])
