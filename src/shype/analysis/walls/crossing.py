"""What crosses a wall over time: information between labels that never run at once.

The wall is sHype's, without history: a VM that goes on running beside first
the one and then the other carries what it has learnt, and so does a disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.history import history
from shype.analysis.flows.report import Route
from shype.analysis.flows.steps import along
from shype.analysis.flows.vertex import Layer, Role
from shype.analysis.walls.coexistence import Walls
from shype.analysis.walls.weights import Weights
from shype.base import bits
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Crossing:
    """Information of any of ``sources`` gets to any of ``sinks``, from ``layer`` on.

    A wall separates each of the ones from each of the others. ``route`` is a
    shortest path between the first of both, with the states of the host.
    """

    sources: tuple[LabelName, ...]
    sinks: tuple[LabelName, ...]
    layer: Layer
    route: Route

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "from": list(self.sources), "to": list(self.sinks), "layer": self.layer.shown,
            "path": list(self.route.names),
            "states": [state.to_json() for state in self.route.states],
        }


@dataclass(frozen=True, slots=True)
class Crossings:
    """``separated`` ordered pairs of labels never run at once; ``crossed`` of them leak.

    ``found``: the first of these, by pairs of vertices of the flow graph.
    """

    separated: int
    crossed: int
    found: tuple[Crossing, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"separated": self.separated, "crossed": self.crossed,
                "found": [one.to_json() for one in self.found]}


def crossings(graph: FlowGraph, layer: Layer = Layer.DRIVER, limit: int = 20) -> Crossings:
    """The pairs of labels that a wall separates and that information gets between at ``layer``.

    Paths and states are made of the first ``limit`` pairs of vertices only.
    """
    separated = crossed = 0
    labels = bits.of(
        index for index, vertex in enumerate(graph.vertices)
        if vertex.labels and vertex.role is not Role.DOM0
    )
    reach = graph.reach(layer)
    weights = Weights([len(vertex.labels) for vertex in graph.vertices])
    for source in bits.each(labels):
        size = len(graph.vertices[source].labels)
        apart = labels & ~graph.beside[source]
        separated += size * weights.of(apart)
        crossed += size * weights.of(apart & reach[source])
    return Crossings(separated, crossed, tuple(islice(_each(graph, layer, labels), limit)))


def _each(graph: FlowGraph, layer: Layer, labels: int) -> Iterator[Crossing]:
    walls = Walls(graph.server)
    for source in bits.each(labels):
        for sink in bits.each(labels & ~graph.beside[source] & graph.reach(layer)[source]):
            lowest = graph.layer(source, sink)
            assert lowest is not None
            steps = along(graph, next(graph.paths(source, sink, lowest)), lowest)
            yield Crossing(
                graph.vertices[source].labels, graph.vertices[sink].labels, lowest,
                Route(steps, history(graph, walls, steps)),
            )
