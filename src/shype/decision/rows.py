"""All vectors of one class at a time: which classes have the same, as sets of bits.

What two ordinary classes may do to each other follows from what their common
coalitions open, what both have switched on, and which of the two dominates
(see `Sharing.vector`). Each of these splits the classes into a few sets, so a
row costs some operations on long integers, however many classes there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from shype.base import bits
from shype.decision.order import Order
from shype.decision.rights import Classes, Rights
from shype.decision.sharing import AccessVector, Sharing
from shype.policy.mechanism import Mechanism
from shype.policy.names import CoalitionName


class Rows:
    """Made once per policy. A set of classes is an integer: bit n for class n."""

    def __init__(self, classes: Classes, sharing: Sharing) -> None:
        self._sharing, self._rights = sharing, classes.rights
        self._unusual = [
            r.dom0 or r.retired or r.guard is not None for r in classes.rights
        ]
        ordinary = [n for n, unusual in enumerate(self._unusual) if not unusual]
        self._ordinary = bits.of(ordinary)
        self._others = [n for n, unusual in enumerate(self._unusual) if unusual]
        self._inside: Mapping[CoalitionName, int] = {
            name: bits.of(numbers) & self._ordinary
            for name, numbers in classes.in_coalition.items()
        }
        alike: dict[frozenset[Mechanism], list[int]] = defaultdict(list)
        for number in ordinary:
            alike[classes.rights[number].mechanisms].append(number)
        self._switches = [(on, bits.of(numbers)) for on, numbers in alike.items()]
        self._levels = Order([r.level for r in classes.rights])
        self._integrity = Order([r.integrity for r in classes.rights])

    def groups(self, subject: int) -> Iterator[tuple[AccessVector, int]]:
        """The vectors of class ``subject``, each with the set of classes on which it has it.

        A vector may come more than once, with disjoint sets; classes that are
        in none have `sharing.UNRELATED`.
        """
        if self._unusual[subject]:
            yield from _collected(self._sharing.row(subject).items())
            return
        yield from _collected((n, self._sharing.vector(subject, n)) for n in self._others)
        mine = self._rights[subject]
        for part in self._parts(mine):
            yield self._sharing.vector(subject, bits.first(part)), part

    def _parts(self, mine: Rights) -> Iterable[int]:
        """The ordinary classes in a coalition of ``mine``, apart where a vector may differ."""
        opened: dict[int, int] = {0: self._near(mine)}
        for name in mine.coalitions:
            inside, after = self._inside[name], dict[int, int]()
            for bits_opened, part in opened.items():
                for opens, some in (
                    (bits_opened | self._sharing.opens(name), part & inside),
                    (bits_opened, part & ~inside),
                ):
                    if some:
                        after[opens] = after.get(opens, 0) | some
            opened = after
        parts = list(opened.values())
        together: dict[frozenset[Mechanism], int] = defaultdict(int)
        for on, some in self._switches:
            together[on & mine.mechanisms] |= some
        parts = _split(parts, together.values())
        for order, held in ((self._levels, mine.level), (self._integrity, mine.integrity)):
            if held is not None:
                parts = _cut(parts, order.above(held.low))
                parts = _cut(parts, order.below(held.high))
        return parts

    def _near(self, mine: Rights) -> int:
        found = 0
        for name in mine.coalitions:
            found |= self._inside[name]
        return found


def _collected(found: Iterable[tuple[int, AccessVector]]) -> Iterator[tuple[AccessVector, int]]:
    numbers: dict[AccessVector, list[int]] = defaultdict(list)
    for number, vector in found:
        numbers[vector].append(number)
    for vector, some in numbers.items():
        yield vector, bits.of(some)


def _split(parts: Iterable[int], sets: Iterable[int]) -> list[int]:
    """Each part's share of each set; empty ones left out."""
    whole = list(sets)
    return [part & some for part in parts for some in whole if part & some]


def _cut(parts: Iterable[int], line: int) -> list[int]:
    """Each part in two: inside and outside; empty ones left out."""
    return [half for part in parts for half in (part & line, part & ~line) if half]
