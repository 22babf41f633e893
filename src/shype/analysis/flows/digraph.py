"""Directed graphs whose vertices are 0..n-1: components, closure, shortest and minimal paths.

Each vertex has a row: the set of its successors as the bits of an integer, so
that one operation handles thousands of edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shype.base import bits

#: The vertices of a path in order; at least one edge, so at least two entries.
Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Closed:
    """A finished component: its vertices, and all that its vertices reach."""

    vertices: int
    reach: int


class Digraph:
    """Immutable. ``rows``: one integer per vertex; bits beyond the last vertex are an error."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        if any(row >> len(self.rows) for row in self.rows):
            raise ValueError("an edge leads to a vertex that is not there")
        self._closure: tuple[int, ...] | None = None
        self._components: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    # -- reachability -------------------------------------------------------------------------

    def closure(self) -> tuple[int, ...]:
        """Per vertex, all that a path of one edge or more leads to (itself only by a cycle)."""
        if self._closure is None:
            found = _Search(self.rows)
            self._closure = found.reach()
            self._components = tuple(c.vertices for c in found.closed)
        return self._closure

    def components(self) -> tuple[int, ...]:
        """The strongly connected components as sets, each after all that it reaches."""
        self.closure()
        return self._components

    # -- paths --------------------------------------------------------------------------------

    def shortest(self, source: int, sink: int) -> Path | None:
        """One of the paths with the fewest edges (at least one), or None: there is none."""
        return next(self.all_shortest(source, sink), None)

    def all_shortest(self, source: int, sink: int) -> Iterator[Path]:
        """Every path with the fewest edges, smaller vertices first."""
        levels = self._levels(source, sink)
        if levels is None:
            return
        # From the sink back: which vertices of each level are on a shortest path at all.
        useful = [1 << sink]
        for level in reversed(levels):
            useful.append(bits.of(v for v in bits.each(level) if self.rows[v] & useful[-1]))
        useful.reverse()
        yield from self._along(useful, 0, (source,))

    def _along(self, useful: Sequence[int], depth: int, path: Path) -> Iterator[Path]:
        if depth + 1 == len(useful):
            yield path
            return
        for vertex in bits.each(self.rows[path[-1]] & useful[depth + 1]):
            yield from self._along(useful, depth + 1, (*path, vertex))

    def _levels(self, source: int, sink: int) -> list[int] | None:
        """The vertices by their distance from ``source``, up to before the sink's."""
        levels, seen = [1 << source], 0
        while True:
            ahead = 0
            for vertex in bits.each(levels[-1]):
                ahead |= self.rows[vertex]
            ahead &= ~seen
            if ahead >> sink & 1:
                return levels
            if not ahead:
                return None
            seen |= ahead
            levels.append(ahead)

    def minimal(self, source: int, sink: int) -> Iterator[Path]:
        """Every minimal path: no edge leads from one of its vertices past the next one.

        So none of its steps can be left out. There may be exponentially many;
        they come one by one, depth first, smaller vertices first.
        """
        if source == sink:
            # A cycle: its minimal paths leave and come back, so none of them is shorter by half.
            if self.rows[source] >> sink & 1:
                yield (source, sink)
                return
            for vertex in bits.each(self.rows[source]):
                blocked = self.rows[source] & ~(1 << vertex)
                yield from self._onward((source, vertex), sink, blocked)
            return
        yield from self._onward((source,), sink, 1 << source)

    def _onward(self, path: Path, sink: int, blocked: int) -> Iterator[Path]:
        """Minimal paths that go on from ``path``, never through ``blocked``."""
        row = self.rows[path[-1]]
        if row >> sink & 1:
            yield (*path, sink)
            return
        ahead = row & ~blocked & ~(1 << path[-1])
        blocked |= row | 1 << path[-1]
        for vertex in bits.each(ahead):
            if self._leads(vertex, sink, blocked):
                yield from self._onward((*path, vertex), sink, blocked)

    def _leads(self, vertex: int, sink: int, blocked: int) -> bool:
        """Whether a path from ``vertex`` to ``sink`` avoids ``blocked`` in between."""
        seen = ahead = 1 << vertex
        while ahead:
            beyond = 0
            for one in bits.each(ahead):
                beyond |= self.rows[one]
            if beyond >> sink & 1:
                return True
            ahead = beyond & ~seen & ~blocked
            seen |= ahead
        return False


class _Search:
    """Components and closure in one depth-first search.

    The path-based algorithm (Gabow 2000) on bit sets: ``_above[i]`` is the
    union of the components on the search path up to the i-th, so that the
    lowest one that an edge leads back to is found by bisection. What a
    finished component reaches is taken over as a whole, and edges into it are
    then never looked at.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows
        self.closed: list[_Closed] = []
        self._number = [-1] * len(rows)  # of the finished component a vertex is in
        self._done = 0
        self._until: list[int] = []  # ``_done`` after each of them
        # The search path: vertices, edges still to follow, and what is reached by now.
        self._inside: list[int] = []
        self._ahead: list[int] = []
        self._reached: list[int] = []
        self._above: list[int] = []
        self._cyclic: list[bool] = []
        for vertex in range(len(rows)):
            if not self._done >> vertex & 1:
                self._from(vertex)

    def reach(self) -> tuple[int, ...]:
        return tuple(self.closed[number].reach for number in self._number)

    def _from(self, vertex: int) -> None:
        self._push(vertex)
        while self._inside:
            top = len(self._inside) - 1
            ahead = self._ahead[top]
            back = ahead & self._above[top]
            if back:
                self._merge(back)
            elif ahead & ~self._done:
                self._push(bits.first(ahead & ~self._done))
            else:
                self._close()

    def _push(self, vertex: int) -> None:
        one, row = 1 << vertex, self._rows[vertex]
        self._inside.append(one)
        self._ahead.append(row & ~one)
        self._reached.append(0)
        self._above.append((self._above[-1] if self._above else 0) | one)
        self._cyclic.append(bool(row & one))

    def _merge(self, back: int) -> None:
        """Contract the path from the lowest component that ``back`` meets to the top."""
        low, high = 0, len(self._above) - 1
        while low < high:
            middle = (low + high) // 2
            if self._above[middle] & back:
                high = middle
            else:
                low = middle + 1
        inside = ahead = reached = 0
        for index in range(low, len(self._inside)):
            inside |= self._inside[index]
            ahead |= self._ahead[index]
            reached |= self._reached[index]
        cyclic = low < len(self._inside) - 1 or self._cyclic[low]
        above = self._above[-1]
        for stack in (self._inside, self._ahead, self._reached, self._above, self._cyclic):
            del stack[low:]
        self._inside.append(inside)
        self._ahead.append(ahead & ~inside & ~reached)
        self._reached.append(reached)
        self._above.append(above)
        self._cyclic.append(cyclic)

    def _close(self) -> None:
        inside, reached = self._inside.pop(), self._reached.pop()
        ahead = self._ahead.pop() & ~reached
        self._above.pop()
        while ahead:  # edges into components that were finished before
            closed = self.closed[self._latest(ahead)]
            reached |= closed.vertices | closed.reach
            ahead &= ~reached
        if self._cyclic.pop():
            reached |= inside
        for vertex in bits.each(inside):
            self._number[vertex] = len(self.closed)
        self.closed.append(_Closed(inside, reached))
        self._done |= inside
        self._until.append(self._done)
        if self._inside:
            self._reached[-1] |= inside | reached
            self._ahead[-1] &= ~(inside | reached)

    def _latest(self, some: int) -> int:
        """The finished component that finished last, of those that ``some`` meets.

        It may reach all the others and is reached by none: taken first, it
        leaves the fewest to be looked at.
        """
        low, high = 0, len(self._until) - 1
        while low < high:
            middle = (low + high) // 2
            if some & ~self._until[middle]:
                low = middle + 1
            else:
                high = middle
        return low
