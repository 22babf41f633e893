"""The maximal sets of labels that can run on one host at once.

Two labels with the same competitors are in the same maximal sets, so they are
one vertex.  Labels between which no chain of conflicts leads are independent:
the maximal sets of the whole are all combinations of those of the connected
parts of the conflict graph, and their number is the product.  Only within a
part are they enumerated (Bron and Kerbosch, 1973, with Tomita's pivot).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from shype.analysis.walls.budget import STEPS, Budget
from shype.analysis.walls.coexistence import Walls
from shype.base import bits
from shype.policy.names import LabelName

#: Sets of one part that are kept; its other sets are neither listed nor counted.
KEPT = 2_000
#: More runs of neighbouring columns than this are not moved as wholes.
_RUNS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """Labels that compete, directly or through others, and those of them that run at once.

    ``groups``: labels with the same competitors, so that a maximal set has all
    of a group or none. ``sets``: maximal sets, each the numbers of its groups;
    all there are iff ``complete``.  ``most``: the most labels in one set, as
    the largest that was found and a bound that none exceeds.
    """

    groups: tuple[tuple[LabelName, ...], ...]
    sets: tuple[tuple[int, ...], ...]
    complete: bool
    most: tuple[int, int]

    def labels(self, chosen: Sequence[int]) -> tuple[LabelName, ...]:
        """The labels of the groups ``chosen``."""
        return tuple(name for number in chosen for name in self.groups[number])

    def to_json(self) -> dict[str, object]:
        """Shape of a part in ``--json`` output."""
        return {
            "groups": [list(group) for group in self.groups],
            "sets": [list(chosen) for chosen in self.sets],
            "complete": self.complete, "most": list(self.most),
        }


@dataclass(frozen=True, slots=True)
class MaximalSets:
    """All maximal sets: ``free`` (labels without competitors), and one set of every part.

    ``count`` of them; at least that many if not ``complete``.
    """

    free: tuple[LabelName, ...]
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """How many combinations of the sets that were found."""
        return prod(len(part.sets) for part in self.parts)

    @property
    def complete(self) -> bool:
        """Whether no set is missing."""
        return all(part.complete for part in self.parts)

    @property
    def most(self) -> tuple[int, int]:
        """The most labels that run at once: found, and not exceeded."""
        low, high = (sum(part.most[end] for part in self.parts) for end in (0, 1))
        return len(self.free) + low, len(self.free) + high

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "free": list(self.free), "parts": [part.to_json() for part in self.parts],
            "count": self.count, "complete": self.complete, "most": list(self.most),
        }


def groups(
    walls: Walls, chosen: Mapping[int, tuple[LabelName, ...]]
) -> tuple[list[tuple[LabelName, ...]], list[int]]:
    """The labels ``chosen`` (by class) in groups with the same competitors, and the conflicts.

    The second list has the conflict graph: bit j of row i iff the groups i
    and j never run at once.
    """
    within = bits.of(chosen)
    alike: dict[int, list[int]] = {}
    for number in sorted(chosen):
        alike.setdefault(within & ~walls.beside[number], []).append(number)
    rows = renumbered(alike, [numbers[0] for numbers in alike.values()])
    order = {name: i for i, name in enumerate(walls.of)}
    names = [
        tuple(sorted((name for n in numbers for name in chosen[n]), key=order.__getitem__))
        for numbers in alike.values()
    ]
    return names, rows


def maximal_sets(
    walls: Walls, chosen: Mapping[int, tuple[LabelName, ...]], steps: int = STEPS
) -> MaximalSets:
    """The maximal sets of the labels ``chosen`` (by class).

    ``steps`` bounds the work on each part.
    """
    names, conflicts = groups(walls, chosen)
    free: tuple[LabelName, ...] = ()
    parts = []
    for vertices in connected(conflicts):
        if len(vertices) == 1:
            free += names[vertices[0]]
            continue
        parts.append(_part([names[v] for v in vertices], induced(conflicts, vertices), steps))
    return MaximalSets(free, tuple(parts))


def _part(names: list[tuple[LabelName, ...]], conflicts: list[int], steps: int) -> Part:
    budget = Budget(steps)
    found: list[int] = []
    everyone = (1 << len(names)) - 1
    beside = [everyone & ~row & ~(1 << i) for i, row in enumerate(conflicts)]
    complete = True
    for chosen in cliques(beside, budget):
        if len(found) == KEPT:
            complete = False
            break
        found.append(chosen)
    complete = complete and not budget.spent
    weights = [len(group) for group in names]
    if not complete:
        found.append(_large(conflicts, weights))
    sets = sorted({tuple(bits.each(chosen)) for chosen in found})
    low = max(sum(weights[i] for i in chosen) for chosen in sets)
    return Part(tuple(names), tuple(sets), complete,
                (low, low if complete else _bound(conflicts, weights)))


def cliques(neighbours: Sequence[int], budget: Budget) -> Iterator[int]:
    """The maximal cliques of a graph, as bits; some are missing iff ``budget`` is spent."""
    everyone = (1 << len(neighbours)) - 1
    # The clique so far, who may join, who joined earlier, and with whom to go on.
    stack = [[0, everyone, 0, _branches(neighbours, everyone, 0)]]
    while stack:
        frame = stack[-1]
        clique, may, had, todo = frame
        if not todo:
            stack.pop()
            continue
        low = todo & -todo
        frame[1:] = may & ~low, had | low, todo & ~low
        row = neighbours[low.bit_length() - 1]
        may, had = may & row, had & row
        if not may:
            if not had:
                yield clique | low
            continue
        if not budget.take((may | had).bit_count()):
            return
        stack.append([clique | low, may, had, _branches(neighbours, may, had)])


def _branches(neighbours: Sequence[int], may: int, had: int) -> int:
    """All of ``may`` but the neighbours of the vertex that has the most there."""
    best = may
    for vertex in bits.each(may | had):
        left = may & ~neighbours[vertex]
        if left.bit_count() < best.bit_count():
            best = left
            if not best & (best - 1):
                break
    return best


def connected(rows: Sequence[int]) -> Iterator[list[int]]:
    """The connected parts of an undirected graph, each by its vertices in order."""
    left = (1 << len(rows)) - 1
    while left:
        part = todo = left & -left
        while todo:
            low = todo & -todo
            new = rows[low.bit_length() - 1] & ~part
            part |= new
            todo = todo & ~low | new
        left &= ~part
        yield list(bits.each(part))


def induced(rows: Sequence[int], vertices: Sequence[int]) -> list[int]:
    """The graph on ``vertices`` alone, numbered from 0 in that order."""
    if len(vertices) == len(rows):
        return list(rows)
    return renumbered((rows[v] for v in vertices), vertices)


def renumbered(rows: Iterable[int], kept: Sequence[int]) -> list[int]:
    """The columns ``kept`` (ascending) of ``rows``, numbered from 0."""
    runs: list[tuple[int, int, int]] = []  # first column, its new number, how many as bits
    for new, old in enumerate(kept):
        if runs and old == runs[-1][0] + new - runs[-1][1]:
            first, number, ones = runs[-1]
            runs[-1] = first, number, ones << 1 | 1
        else:
            runs.append((old, new, 1))
    if len(runs) > _RUNS:
        number_of, within = {old: new for new, old in enumerate(kept)}, bits.of(kept)
        return [bits.of(number_of[v] for v in bits.each(row & within)) for row in rows]
    found = []
    for row in rows:
        made = 0
        for first, number, ones in runs:
            made |= (row >> first & ones) << number
        found.append(made)
    return found


def _large(conflicts: Sequence[int], weights: Sequence[int]) -> int:
    """A maximal set without conflicts, and of much weight: who has the fewest goes first."""
    order = sorted(range(len(conflicts)), key=lambda v: conflicts[v].bit_count() / weights[v])
    chosen = excluded = 0
    for vertex in order:
        if not excluded >> vertex & 1:
            chosen |= 1 << vertex
            excluded |= conflicts[vertex]
    return chosen


def _bound(conflicts: Sequence[int], weights: Sequence[int]) -> int:
    """No set without conflicts weighs more: of who all exclude each other, only one runs."""
    left = (1 << len(conflicts)) - 1
    total = 0
    while left:
        vertex = (left & -left).bit_length() - 1
        heaviest = 0
        common = left
        while True:
            heaviest = max(heaviest, weights[vertex])
            left &= ~(1 << vertex)
            common &= conflicts[vertex] & left
            if not common:
                break
            vertex = (common & -common).bit_length() - 1
        total += heaviest
    return total
