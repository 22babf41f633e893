"""On how many hosts, and on which, VMs of given labels can run at the same time.

Whoever never runs beside whom needs another host, so this is graph colouring
with hosts as colours: the labels that a wall separates are the edges.  Exact
by search (Brelaz's DSATUR order, 1979) as far as a number of steps allows;
beyond it, bounds, each with its witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice

from shype.analysis.walls.budget import STEPS, Budget
from shype.analysis.walls.coexistence import Walls
from shype.analysis.walls.maximal import connected, groups, induced
from shype.analysis.walls.sites import Site
from shype.base import bits
from shype.policy.names import LabelName

#: Steps of the search for many labels that all exclude each other.
_CLIQUE = 50_000
#: Edges from which on colours are given more simply, and the vertices looked at each time.
_MANY = 300_000
_LOOK = 32


@dataclass(frozen=True, slots=True)
class Needed:
    """The least number of hosts on which one VM of every label can run at once.

    ``least``..``enough``; equal iff it is known exactly.  ``apart``: labels no
    two of which run on one host, the witness of ``least`` (fewer than
    ``least``, if a search found that less is not enough).  ``hosts``: the
    labels of each host, the witness of ``enough``.
    """

    least: int
    enough: int
    apart: tuple[LabelName, ...]
    hosts: tuple[tuple[LabelName, ...], ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "least": self.least, "enough": self.enough, "apart": list(self.apart),
            "hosts": [list(names) for names in self.hosts],
        }


@dataclass(frozen=True, slots=True)
class Placement:
    """Where VMs of given labels run at the same time.

    ``possible`` is None if the search was ended before it was known.
    ``hosts`` has the labels on each host, in the order of their start, if it
    is possible.
    """

    possible: bool | None
    hosts: Mapping[str, tuple[LabelName, ...]]


def needed(
    walls: Walls, chosen: Mapping[int, tuple[LabelName, ...]], steps: int = STEPS
) -> Needed:
    """The hosts needed for the labels ``chosen`` (by class), all hosts being alike."""
    if not chosen:
        return Needed(0, 0, (), ())
    names, conflicts = groups(walls, chosen)
    colour = [0] * len(names)
    least = 1
    apart: tuple[LabelName, ...] = (names[0][0],)
    budget = Budget(steps)
    enough = 1
    for vertices in connected(conflicts):
        rows = induced(conflicts, vertices)
        clique = _clique(rows)
        if len(clique) > len(apart):
            apart = tuple(names[vertices[v]][0] for v in clique)
        found = greedy(rows)
        low = len(clique)
        # What a part needs less than another does not matter.
        while low < max(found) + 1 and max(found) + 1 > least:
            best = colouring(rows, [(1 << max(found)) - 1] * len(rows), [0] * max(found), budget)
            if best is None:
                low = max(found) + 1 if not budget.spent else low
                break
            found = best
        least, enough = max(least, low), max(enough, max(found) + 1)
        for vertex, host in zip(vertices, found, strict=True):
            colour[vertex] = host
    hosts: list[list[LabelName]] = [[] for _ in range(enough)]
    for group, host in zip(names, colour, strict=True):
        hosts[host] += group
    return Needed(max(least, len(apart)), enough, apart, tuple(map(tuple, hosts)))


def place(
    walls: Walls, sites: Sequence[Site], labels: Sequence[LabelName], steps: int = STEPS
) -> Placement:
    """Whether one VM of each of ``labels`` can run at once, each on one of ``sites``."""
    hosts: dict[str, list[LabelName]] = {one.name: list(one.always) for one in sites}
    wanted = [
        label for label in dict.fromkeys(labels) if not any(label in s.always for s in sites)
    ]
    # Labels with the same competitors and the same hosts can share a host: one vertex.
    alike: dict[tuple[int, int], list[LabelName]] = {}
    within = bits.of({walls.of[label] for label in wanted})
    for label in wanted:
        may = bits.of(i for i, one in enumerate(sites) if label in one.open)
        alike.setdefault((within & ~walls.beside[walls.of[label]], may), []).append(label)
    allowed = [may for _, may in alike]
    numbers = [bits.of({walls.of[label] for label in names}) for names in alike.values()]
    rows = [bits.of(j for j, other in enumerate(numbers) if row & other) for row, _ in alike]
    kinds = [next(j for j, other in enumerate(sites) if other.same(one)) for one in sites]
    budget = Budget(steps)
    if not all(allowed) or not _enough_hosts(rows, allowed):
        return Placement(False, {})
    found = colouring(rows, allowed, kinds, budget)
    if found is None:
        return Placement(None if budget.spent else False, {})
    for names, index in zip(alike.values(), found, strict=True):
        hosts[sites[index].name] += names
    return Placement(True, {name: tuple(running) for name, running in hosts.items()})


def greedy(rows: Sequence[int]) -> list[int]:
    """A colour for each vertex, from 0, different along edges.

    The most constrained vertex first; in a graph with very many edges, colour
    by colour, those first that leave the most others for the colour.
    """
    if sum(row.bit_count() for row in rows) > _MANY:
        return _colour_by_colour(rows)
    colour = [-1] * len(rows)
    forbidden: list[int] = []  # by colour, the neighbours of who has it
    seen = [0] * len(rows)  # by vertex, how many colours are forbidden
    degree = [row.bit_count() for row in rows]
    heap = [(0, -degree[v], v) for v in range(len(rows))]
    heapify(heap)
    while heap:
        saturation, _, vertex = heappop(heap)
        if colour[vertex] >= 0 or -saturation != seen[vertex]:
            continue
        mine = next(
            (c for c, who in enumerate(forbidden) if not who >> vertex & 1), len(forbidden)
        )
        if mine == len(forbidden):
            forbidden.append(0)
        colour[vertex] = mine
        for other in bits.each(rows[vertex] & ~forbidden[mine]):
            if colour[other] < 0:
                seen[other] += 1
                heappush(heap, (-seen[other], -degree[other], other))
        forbidden[mine] |= rows[vertex]
    return colour


def _colour_by_colour(rows: Sequence[int]) -> list[int]:
    colour, left = [0] * len(rows), (1 << len(rows)) - 1
    number = 0
    while left:
        may = left
        while may:
            few = islice(bits.each(may), _LOOK)
            vertex = min(few, key=lambda v: (rows[v] & may).bit_count())
            colour[vertex] = number
            left &= ~(1 << vertex)
            may &= ~rows[vertex] & left
        number += 1
    return colour


def colouring(
    rows: Sequence[int], allowed: Sequence[int], kinds: Sequence[int], budget: Budget
) -> list[int] | None:
    """A colour of ``allowed[v]`` for each vertex v, different along edges; None if there is none.

    ``kinds``: colours of the same kind are interchangeable, so of those that
    nobody has yet only the first is tried.  None too if ``budget`` is spent.
    """
    if not budget.covers(len(rows) * (len(rows) + 1) // 2):
        return None  # not even one attempt to the end
    colour = [-1] * len(rows)
    may = list(allowed)
    #: By colour, the vertices that may still have it.
    open_to = [bits.of(v for v, m in enumerate(may) if m >> c & 1) for c in range(len(kinds))]
    used = [0] * len(kinds)
    left, waiting = set(range(len(rows))), (1 << len(rows)) - 1
    degree = [row.bit_count() for row in rows]
    # Who was chosen, which colours remain to be tried, and whose choice that narrowed.
    stack: list[tuple[int, list[int], list[int]]] = []

    def branch() -> None:
        nonlocal waiting
        vertex = min(left, key=lambda v: (may[v].bit_count(), -degree[v], v))
        fresh = set()
        colours = []
        for c in bits.each(may[vertex]):
            if not used[c]:
                if kinds[c] in fresh:
                    continue
                fresh.add(kinds[c])
            colours.append(c)
        left.discard(vertex)
        waiting &= ~(1 << vertex)
        stack.append((vertex, colours[::-1], []))

    if left:
        branch()
    while stack:
        vertex, colours, narrowed = stack[-1]
        if colour[vertex] >= 0:
            used[colour[vertex]] -= 1
            for other in narrowed:
                may[other] |= 1 << colour[vertex]
                open_to[colour[vertex]] |= 1 << other
            narrowed.clear()
            colour[vertex] = -1
        if not colours:
            left.add(vertex)
            waiting |= 1 << vertex
            stack.pop()
            continue
        if not budget.take(len(left) + 1):
            return None
        mine = colour[vertex] = colours.pop()
        used[mine] += 1
        dead = False
        hit = rows[vertex] & waiting & open_to[mine]
        open_to[mine] &= ~hit
        for other in bits.each(hit):
            may[other] &= ~(1 << mine)
            narrowed.append(other)
            dead = dead or not may[other]
        if dead:
            continue
        if not left:
            return colour
        branch()
    return colour if not rows else None


def _clique(rows: Sequence[int]) -> list[int]:
    """Vertices that all exclude each other: the largest that some starts, extended, give."""
    best: list[int] = []
    budget = Budget(_CLIQUE)
    starts = sorted(range(len(rows)), key=lambda v: -rows[v].bit_count())
    for start in starts:
        found, common = [start], rows[start]
        while common:
            few = list(islice(bits.each(common), _LOOK))
            vertex = max(few, key=lambda v: (rows[v] & common).bit_count())
            found.append(vertex)
            common &= rows[vertex]
            budget.take(len(few))
        if len(found) > len(best):
            best = found
        if budget.spent:
            break
    return best


def _enough_hosts(rows: Sequence[int], allowed: Sequence[int]) -> bool:
    """Whether those of a clique can each have a host of its own: a matching. Necessary only."""
    clique = _clique(rows)
    guest: dict[int, int] = {}

    def settle(vertex: int, tried: set[int]) -> bool:
        for host in bits.each(allowed[vertex]):
            if host not in tried:
                tried.add(host)
                if host not in guest or settle(guest[host], tried):
                    guest[host] = vertex
                    return True
        return False

    return all(settle(vertex, set()) for vertex in clique)
