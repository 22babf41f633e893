"""Xen's Access Control Module once more, for tests: sets, loops and two counters.

Written from a description of its behaviour, and sharing no code with shype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Acm:
    """The matrices: STE and CHWALL types of each VM label, STE types of resources, sets."""

    dom0: str
    ste: Mapping[str, Set[str]]
    chwall: Mapping[str, Set[str]]
    resources: Mapping[str, Set[str]] = field(default_factory=dict)
    sets: Sequence[Set[str]] = ()

    def shares(self, a: str, b: str) -> bool:
        """The sharing rule."""
        for mine in self.ste[a]:
            for other in self.ste[b]:
                if mine == other:
                    return True
        return False

    def authorized(self, label: str) -> bool:
        """dom0 has every type of the label, and shares with it."""
        for needed in self.ste[label]:
            if needed not in self.ste[self.dom0]:
                return False
        return self.shares(self.dom0, label)

    def uses(self, label: str, resource: str) -> bool:
        """The resource rule."""
        return bool(set(self.ste[label]) & set(self.resources[resource]))

    def self_conflicts(self, label: str) -> bool:
        """Whether it has two types of one conflict set, so that the order of starts decides."""
        return any(len(set(members) & set(self.chwall[label])) > 1 for members in self.sets)


class Machine:
    """A host: the counters of types that run and of types that are excluded. dom0 runs."""

    def __init__(self, acm: Acm) -> None:
        self.acm = acm
        self.running: dict[str, int] = {}
        self.aggregate: dict[str, int] = {}
        assert self.start(acm.dom0)

    def start(self, label: str) -> bool:
        """Start one: whether that was permitted; if not, nothing changed."""
        types = self.acm.chwall[label]
        for t in types:
            if self.aggregate.get(t, 0) > 0:
                return False
        self._count(label, 1)
        return True

    def stop(self, label: str) -> None:
        """Stop one that runs."""
        self._count(label, -1)

    def _count(self, label: str, step: int) -> None:
        types = self.acm.chwall[label]
        for members in self.acm.sets:
            if set(members) & set(types):
                for t in members:
                    if t not in types:
                        self.aggregate[t] = self.aggregate.get(t, 0) + step
        for t in types:
            self.running[t] = self.running.get(t, 0) + step
        self.aggregate = {t: n for t, n in self.aggregate.items() if n}
        self.running = {t: n for t, n in self.running.items() if n}
