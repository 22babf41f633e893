"""Which operations between which labels a new policy permits that the old one did not, and back.

Labels are compared by classes: those with the same rights before, and the
same rights after, change in the same way.  What is listed is a group of
subjects, a group of objects, and the operations gained and lost between each
of the ones and each of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.analysis.renames import Renames
from shype.decision.ids import PERMISSIONS
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.decision.sharing import AccessVector
from shype.policy.names import LabelName

_OPERATIONS = tuple(Operation)


@dataclass(frozen=True, slots=True)
class Party:
    """One label before and after; None where it does not exist. dom0 is one of them.

    ``retired``: NEW has it as a tombstone, which may do nothing.
    """

    old: LabelName | None
    new: LabelName | None
    retired: bool = False

    @property
    def shown(self) -> str:
        """The name in NEW, else the one that it had in OLD."""
        if self.new is not None:
            return self.new
        return f"{self.old} (retired)" if self.retired else f"{self.old} (gone)"


@dataclass(frozen=True, slots=True)
class Group:
    """Each of ``subjects`` gains and loses these operations on each of ``objects``.

    A label on both sides means two different VMs that carry it.
    """

    subjects: tuple[Party, ...]
    objects: tuple[Party, ...]
    gained: tuple[Operation, ...]
    lost: tuple[Operation, ...]

    @property
    def pairs(self) -> int:
        """How many ordered pairs of labels."""
        return len(self.subjects) * len(self.objects)

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype plan --json``."""
        return {
            "subjects": [_party_json(p) for p in self.subjects],
            "objects": [_party_json(p) for p in self.objects],
            "gained": list(self.gained), "lost": list(self.lost), "pairs": self.pairs,
        }


def _party_json(party: Party) -> dict[str, object]:
    return {"old": party.old, "new": party.new, "retired": party.retired}


def parties(old: SecurityServer, new: SecurityServer, names: Renames) -> tuple[Party, ...]:
    """dom0, then the labels of NEW in file order, then those of OLD that have gone."""
    before: dict[LabelName, list[LabelName]] = defaultdict(list)
    for was, now in names.labels.new_of.items():
        before[now].append(was)
    found = [Party(old.policy.host.dom0, new.policy.host.dom0)]
    for label in new.policy.guests:
        known: Sequence[LabelName | None] = sorted(before[label.name]) or [None]
        found += [Party(was, label.name) for was in known]
    gone = (label.name for label in old.policy.guests if label.name not in names.labels.new_of)
    return (*found, *(Party(name, None, name in new.policy.retired) for name in gone))


def compare(
    old: SecurityServer, new: SecurityServer, everyone: Iterable[Party]
) -> tuple[Group, ...]:
    """All changes between any two of ``everyone``.

    Costs grow with the pairs of classes that may do something to each other,
    before or after; labels in one class cost nothing more.
    """
    return tuple(_Comparison(old, new, everyone).groups())


class _Comparison:
    def __init__(
        self, old: SecurityServer, new: SecurityServer, everyone: Iterable[Party]
    ) -> None:
        self._old, self._new = old, new
        members: dict[tuple[int | None, int | None], list[Party]] = defaultdict(list)
        for party in everyone:
            members[
                None if party.old is None else old.classes.of[party.old],
                None if party.new is None else new.classes.of[party.new],
            ].append(party)
        self._keys = list(members)
        self._members = [tuple(group) for group in members.values()]
        self._by_old: dict[int, list[int]] = defaultdict(list)
        self._by_new: dict[int, list[int]] = defaultdict(list)
        for index, (before, after) in enumerate(self._keys):
            if before is not None:
                self._by_old[before].append(index)
            if after is not None:
                self._by_new[after].append(index)
        # Vectors are shared between pairs, so each is looked at once; keeping it keeps its id.
        self._masks: dict[int, tuple[AccessVector, int]] = {}

    def groups(self) -> Iterator[Group]:
        alike: dict[tuple[int, int, frozenset[int]], list[int]] = defaultdict(list)
        for index, (before, after) in enumerate(self._keys):
            was = self._reach(self._old, before, self._by_old)
            now = self._reach(self._new, after, self._by_new)
            changed: dict[tuple[int, int], list[int]] = defaultdict(list)
            for other in was.keys() | now.keys():
                b, a = was.get(other, 0), now.get(other, 0)
                if a != b:
                    changed[a & ~b, b & ~a].append(other)
            for (gained, lost), others in changed.items():
                alike[gained, lost, frozenset(others)].append(index)
        for (gained, lost, objects), subjects in alike.items():
            yield Group(
                self._all(subjects), self._all(sorted(objects)), _named(gained), _named(lost),
            )

    def _reach(
        self, server: SecurityServer, subject: int | None, holders: Mapping[int, list[int]]
    ) -> dict[int, int]:
        """The operations of a class on each other group of parties, as bits, without zeros."""
        if subject is None:
            return {}
        found: dict[int, int] = {}
        for other, vector in server.vectors(subject).items():
            mask = self._mask(vector)
            if mask:
                for index in holders.get(other, ()):
                    found[index] = mask
        return found

    def _mask(self, vector: AccessVector) -> int:
        known = self._masks.get(id(vector))
        if known is None:
            mask = sum(1 << i for i, verdict in enumerate(vector) if verdict in PERMISSIONS)
            known = self._masks[id(vector)] = (vector, mask)
        return known[1]

    def _all(self, groups: Iterable[int]) -> tuple[Party, ...]:
        return tuple(party for index in groups for party in self._members[index])


def _named(mask: int) -> tuple[Operation, ...]:
    return tuple(op for i, op in enumerate(_OPERATIONS) if mask >> i & 1)


def counted(groups: Iterable[Group]) -> dict[Operation, tuple[int, int]]:
    """By operation, how many ordered pairs of labels gain and lose it; without zeros."""
    gained: dict[Operation, int] = defaultdict(int)
    lost: dict[Operation, int] = defaultdict(int)
    for group in groups:
        for op in group.gained:
            gained[op] += group.pairs
        for op in group.lost:
            lost[op] += group.pairs
    return {op: (gained[op], lost[op]) for op in _OPERATIONS if op in gained or op in lost}
