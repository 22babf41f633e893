"""What reaches what, of the paths that an assertion counts.

Sets of vertices are the bits of an integer, as everywhere in `shype.analysis.flows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from shype.analysis.flows.digraph import Digraph, Path
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.vertex import Layer
from shype.base import bits
from shype.policy.names import LabelName

#: So many questions are answered by searches of their own, which is quicker than the closure
#: of everything; from then on the closure is used.
_FEW = 32


class Paths:
    """The paths at ``layer`` by steps of ``via`` (None: all) that pass none of ``without``.

    A vertex stands for labels that are alike: it can be passed as long as one
    of them is not in ``without``.
    """

    def __init__(
        self, graph: FlowGraph, layer: Layer, via: Collection[str] | None = None,
        without: Iterable[LabelName] = (),
    ) -> None:
        self.graph, self.layer, self.via = graph, layer, via
        self.without = frozenset(without)
        self.rows = graph.rows(layer, via)
        closed = bits.of(
            graph.of[name] for name in self.without
            if self.without.issuperset(graph.vertices[graph.of[name]].labels)
        )
        self._open = graph.passable(layer) & ~closed
        self._onward = tuple(
            row if self._open >> index & 1 else 0 for index, row in enumerate(self.rows)
        )
        self._digraph = Digraph(self._onward)
        self._asked = 0
        self._forward: dict[int, int] = {}
        self._backward: dict[int, int] = {}

    def forward(self, sources: int) -> int:
        """All that a path of at least one step leads to from any of ``sources``."""
        if sources not in self._forward:
            self._asked += 1
            if self._asked > _FEW:
                found = self._union(self.rows, sources)
                self._forward[sources] = found | self._union(
                    self._digraph.closure(), found & self._open)
                return self._forward[sources]
            seen, ahead = 0, self._union(self.rows, sources)
            while ahead:
                seen |= ahead
                ahead = self._union(self._onward, ahead) & ~seen
            self._forward[sources] = seen
        return self._forward[sources]

    def backward(self, sinks: int) -> int:
        """All from which a path of at least one step leads to any of ``sinks``."""
        if sinks not in self._backward:
            self._asked += _FEW // 4
            if self._asked > _FEW:
                closure = self._digraph.closure()
                back = bits.of(i for i, row in enumerate(closure) if row & sinks) & self._open
                self._backward[sinks] = bits.of(
                    i for i, row in enumerate(self.rows) if row & (sinks | back))
                return self._backward[sinks]
            found, grown = 0, True
            left = list(enumerate(self.rows))
            while grown:
                grown, rest = False, []
                for index, row in left:
                    if row & (sinks | found & self._open):
                        found |= 1 << index
                        grown = True
                    else:
                        rest.append((index, row))
                left = rest
            self._backward[sinks] = found
        return self._backward[sinks]

    def expect(self, questions: int) -> None:
        """So many sources will be asked about."""
        self._asked += questions

    def row(self, source: int) -> int:
        """As `forward`, for one vertex."""
        if self._asked > _FEW and self._open >> source & 1:
            return self._digraph.closure()[source]
        return self.forward(1 << source)

    def shortest(self, source: int, sink: int) -> Path | None:
        """A path with the fewest steps (at least one)."""
        if self._open >> source & 1:
            return self._digraph.shortest(source, sink)
        rows = list(self._onward)
        rows[source] = self.rows[source]
        return Digraph(rows).shortest(source, sink)

    def label(self, vertex: int) -> str:
        """The name by which a path passes ``vertex``: a label that it may pass, or a resource."""
        names = self.graph.vertices[vertex].names
        return next((name for name in names if name not in self.without), names[0])

    @staticmethod
    def _union(rows: Sequence[int], some: int) -> int:
        found = 0
        for index in bits.each(some):
            found |= rows[index]
        return found


class Group:
    """Labels, and how many of them each vertex has."""

    def __init__(self, graph: FlowGraph, labels: Iterable[LabelName]) -> None:
        self.labels = tuple(labels)
        self.names = frozenset(self.labels)
        self.at: dict[int, list[LabelName]] = {}
        for name in self.labels:
            self.at.setdefault(graph.of[name], []).append(name)
        self.mask = bits.of(self.at)
        weights: dict[int, list[int]] = {}
        for index, names in self.at.items():
            weights.setdefault(len(names), []).append(index)
        self._weights: Mapping[int, int] = {n: bits.of(some) for n, some in weights.items()}

    def count(self, some: int) -> int:
        """How many of the labels are at the vertices ``some``."""
        return sum(n * (mask & some).bit_count() for n, mask in self._weights.items())
