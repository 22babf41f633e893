"""Answers of the flow graph as values: who reaches whom, on which layer, along which path."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from shype.analysis.flows.digraph import Path
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.history import history
from shype.analysis.flows.steps import Step, along
from shype.analysis.flows.vertex import Layer, Role
from shype.analysis.walls.coexistence import State, Walls
from shype.base import bits


@dataclass(frozen=True, slots=True)
class Pair:
    """Information of ``source`` gets to ``sink`` from ``layer`` on (vertices of the graph).

    ``path``: a shortest path at that layer. ``by``: the mechanisms of a single
    step from one to the other, at ``layer`` or at a later one that was asked for;
    so if the path passes others, there is a direct way besides.
    """

    source: int
    sink: int
    layer: Layer
    by: tuple[str, ...]
    path: Path

    def to_json(self, graph: FlowGraph) -> dict[str, object]:
        """Shape in ``shype flows --json``."""
        return {
            "from": list(graph.vertices[self.source].names),
            "to": list(graph.vertices[self.sink].names),
            "layer": self.layer.shown, "mechanisms": list(self.by),
            "path": [graph.vertices[v].names[0] for v in self.path],
        }


@dataclass(frozen=True, slots=True)
class Route:
    """A path from one name to another: per step, every way to take it.

    ``states``: what runs while it happens, see `history.history`.
    """

    steps: tuple[tuple[Step, ...], ...]
    states: tuple[State, ...]

    @property
    def at_once(self) -> bool:
        """Whether all VMs on it may run on one host at the same time.

        If not, a VM that goes on running carries it from one state to another.
        """
        return not any(state.stopped for state in self.states)

    @property
    def names(self) -> tuple[str, ...]:
        """What it passes, both ends included."""
        return (self.steps[0][0].source, *(ways[0].sink for ways in self.steps))

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype flows --json``."""
        return {
            "path": list(self.names), "at_once": self.at_once,
            "steps": [[way.to_json() for way in ways] for ways in self.steps],
            "states": [state.to_json() for state in self.states],
        }


def counts(
    graph: FlowGraph, layer: Layer, via: Collection[str] | None = None
) -> dict[Layer, int]:
    """How many ordered pairs of labels (not dom0's) are connected from each layer on.

    Two different labels each; those that share a vertex are counted as such.
    """
    labels = [
        index for index, vertex in enumerate(graph.vertices)
        if vertex.labels and vertex.role is not Role.DOM0
    ]
    everybody = bits.of(labels)
    sizes = {index: len(graph.vertices[index].labels) for index in labels}
    of_size = {size: bits.of(i for i in labels if sizes[i] == size) for size in {*sizes.values()}}
    before = [0] * len(graph)
    found: dict[Layer, int] = {}
    for level in layer.below:
        now, total = graph.reach(level, via), 0
        for index in labels:
            new = now[index] & everybody & ~before[index]
            weight = sum(size * (new & some).bit_count() for size, some in of_size.items())
            # A label is no pair with itself.
            total += sizes[index] * (weight - (new >> index & 1))
        before, found[level] = list(now), total
    return found


def pairs(
    graph: FlowGraph, layer: Layer, via: Collection[str] | None = None, *,
    sources: Collection[int] | None = None, sinks: Collection[int] | None = None,
) -> Iterator[Pair]:
    """All that are `connected`, with path and mechanisms."""
    for source, sink, level in connected(graph, layer, via, sources=sources, sinks=sinks):
        yield pair(graph, source, sink, level, layer, via)


def connected(
    graph: FlowGraph, layer: Layer, via: Collection[str] | None = None, *,
    sources: Collection[int] | None = None, sinks: Collection[int] | None = None,
) -> Iterator[tuple[int, int, Layer]]:
    """All connected pairs of vertices, by layer; dom0 and resources only if they are named.

    A vertex with itself, if it has several labels.
    """
    ordinary = bits.of(
        index for index, vertex in enumerate(graph.vertices)
        if vertex.labels and vertex.role is not Role.DOM0
    )
    starts = ordinary if sources is None else bits.of(sources)
    ends = ordinary if sinks is None else bits.of(sinks)
    before = [0] * len(graph)
    for level in layer.below:
        now = graph.reach(level, via)
        for source in bits.each(starts):
            for sink in bits.each(now[source] & ends & ~before[source]):
                if source != sink or len(graph.vertices[source].labels) > 1:
                    yield source, sink, level
        before = list(now)


def pair(
    graph: FlowGraph, source: int, sink: int, layer: Layer, last: Layer,
    via: Collection[str] | None,
) -> Pair:
    """The pair from ``source`` to ``sink``, whose layer is ``layer``, of those up to ``last``."""
    path = next(graph.paths(source, sink, layer, via))
    rows: list[tuple[str, Sequence[int]]] = [
        (name, graph.by_mechanism[name]) for name in graph.counted(last)
    ]
    if last is Layer.COVERT:
        rows += graph.unmediated.items()
    by = tuple(
        name for name, row in rows
        if row[source] >> sink & 1 and (via is None or name in via)
    )
    return Pair(source, sink, layer, by, path)


def routes(
    graph: FlowGraph, source: str, sink: str, layer: Layer, via: Collection[str] | None = None, *,
    minimal: bool = False, limit: int = 20,
) -> tuple[Route, ...]:
    """The shortest paths between two names, or all minimal ones, at most ``limit``.

    Raises BadInput ``flow.unknown``.
    """
    paths = graph.paths(graph.find(source), graph.find(sink), layer, via, minimal=minimal)
    walls, found = Walls(graph.server), list[Route]()
    for path in islice(paths, limit):
        steps = along(graph, path, layer, via, source=source, sink=sink)
        # What runs, runs at once; otherwise the wall may want one to stop for another to start.
        states = history(graph, walls, steps) if graph.present is None else ()
        found.append(Route(steps, states))
    return tuple(found)
