"""Flows over several steps, and on which of them nobody is trusted to stop information."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from shype.analysis.flows.digraph import Digraph, Path
from shype.base import bits
from shype.base.errors import BadInput
from shype.compile.flask.analyze.flows import Flows

#: Paths between two types that are shown.
LIMIT = 20


class Paths:
    """Paths of direct flows whose inner vertices are not in ``stops``.

    ``stops``: the hubs, but for ``through``, and ``trusted``. Nor does a path go through
    the type of a channel: between which domains it leads, the direct flows say.
    """

    def __init__(
        self, flows: Flows, through: Iterable[str] = (), trusted: Iterable[str] = ()
    ) -> None:
        self.flows = flows
        passed = bits.of(find(flows, name) for name in through)
        self.stops = (flows.parts.hubs | bits.of(find(flows, name) for name in trusted)) & ~passed
        self.direct = flows.union()
        self._closed = self.stops | flows.parts.channels
        self._graph = Digraph([
            0 if self._closed >> vertex & 1 else row for vertex, row in enumerate(self.direct)
        ])

    def reach(self) -> list[int]:
        """By type, all that information from it can get to, directly or not."""
        closure = self._graph.closure()
        found = list(closure)
        for vertex in bits.each(self._closed):
            found[vertex] = self.direct[vertex]
            for other in bits.each(self.direct[vertex]):
                found[vertex] |= closure[other]
        return found

    def shortest(self, source: int, sink: int) -> Path | None:
        """One of the paths with the fewest steps."""
        return self._from(source).shortest(source, sink)

    def minimal(self, source: int, sink: int, limit: int = LIMIT) -> Iterator[Path]:
        """Paths of which no step can be left out, at most ``limit``, the shortest first."""
        found = [*islice(self._from(source).minimal(source, sink), limit)]
        yield from sorted(found, key=len)

    def _from(self, source: int) -> Digraph:
        if not self._closed >> source & 1:
            return self._graph
        rows = list(self._graph.rows)
        rows[source] = self.direct[source]
        return Digraph(rows)


def find(flows: Flows, name: str) -> int:
    """The index of a type. Raises `BadInput` (``analyze.type``)."""
    from difflib import get_close_matches

    index = flows.names.index
    name = flows.binary.aliases.get(name, name)
    if name in index:
        return index[name]
    near = get_close_matches(name, index, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    if name in flows.binary.attributes:
        hint = f"it is an attribute, of {', '.join(flows.binary.attributes[name][:8])}; "
    raise BadInput(
        "analyze.type", f"the policy has no type {name}",
        f"{hint}without --from and --to all types of domains are listed",
    )
