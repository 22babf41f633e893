"""The rules of a policy, one by one: what its tests can cover."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shype.policy.lattice import Lattice
from shype.policy.mechanism import OPENED, SWITCHABLE
from shype.policy.model import Policy
from shype.policy.source import Span


class RuleKind(StrEnum):
    """What a rule says, and by which decisions it is covered; see `coverage`."""

    COALITION = "coalition"
    OPENING = "opening"
    WRITE_UP = "write-up"
    WALL = "wall"
    WALL_MEMBER = "wall member"
    LABEL = "label"
    MEMBERSHIP = "membership"
    SWITCHED_OFF = "switched off"
    GUARD = "guard"
    LEVELS = "levels"
    LEVEL = "level"
    CATEGORY = "category"
    RESOURCE = "resource"
    RESOURCE_LABEL = "resource label"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: ``name`` is what it is about, ``detail`` what it says of that ("" for itself)."""

    kind: RuleKind
    name: str
    detail: str
    span: Span

    def __str__(self) -> str:
        words = {
            RuleKind.OPENING: f"coalition {self.name} opens {self.detail}",
            RuleKind.WRITE_UP: f"coalition {self.name} lets write up",
            RuleKind.WALL_MEMBER: f"wall {self.name} has {self.detail}",
            RuleKind.MEMBERSHIP: f"label {self.name} is in {self.detail}",
            RuleKind.SWITCHED_OFF: f"label {self.name} switches {self.detail} off",
            RuleKind.LEVELS: f"{self.name}",
            RuleKind.LEVEL: f"{self.name}: {self.detail}",
            RuleKind.CATEGORY: f"{self.name}: category {self.detail}",
        }
        return words.get(self.kind, f"{self.kind} {self.name}")


def rules_of(policy: Policy) -> Iterator[Rule]:
    """Every rule, kind by kind, each kind in the order of the file.

    A coalition that opens what every one does says no more than that it is
    there, so its openings are no rules of their own.  A guard's label is the guard.
    dom0's coalitions are one rule, its label; so are those of a driver domain
    that has all.
    """
    for name, coalition in policy.coalitions.items():
        yield Rule(RuleKind.COALITION, name, "", coalition.span)
        if coalition.mechanisms != OPENED:
            for mechanism in sorted(coalition.mechanisms):
                yield Rule(RuleKind.OPENING, name, mechanism, coalition.span)
        if coalition.write_up:
            yield Rule(RuleKind.WRITE_UP, name, "", coalition.span)
    for wall in policy.walls.values():
        yield Rule(RuleKind.WALL, wall.name, "", wall.span)
        for member in sorted(wall.members):
            yield Rule(RuleKind.WALL_MEMBER, wall.name, member, wall.span)
    for what, lattice in (("levels", policy.levels), ("integrity", policy.integrity)):
        if lattice is not None:
            yield from _of_lattice(what, lattice)
    for label in policy.labels.values():
        if label.name not in policy.guards:
            yield Rule(RuleKind.LABEL, label.name, "", label.span)
        privileged = label.name == policy.host.dom0 or label.name in policy.host.drivers
        if not (privileged and label.coalitions == policy.coalitions.keys()):
            for coalition_name in sorted(label.coalitions):
                yield Rule(RuleKind.MEMBERSHIP, label.name, coalition_name, label.span)
        for mechanism in sorted(SWITCHABLE - label.mechanisms):
            yield Rule(RuleKind.SWITCHED_OFF, label.name, mechanism, label.span)
    for guard in policy.guards.values():
        yield Rule(RuleKind.GUARD, guard.name, "", guard.span)
    for found in policy.resource_labels.values():
        if found.name is not None:
            yield Rule(RuleKind.RESOURCE_LABEL, found.name, "", found.span)
    for entry in policy.resources:
        yield Rule(RuleKind.RESOURCE, f"{entry.kind} {entry.pattern}", "", entry.span)
    for tomb in policy.retired.values():
        yield Rule(RuleKind.RETIRED, tomb.name, "", tomb.span)


def _of_lattice(what: str, lattice: Lattice) -> Iterator[Rule]:
    yield Rule(RuleKind.LEVELS, what, "", lattice.span)
    for sensitivity in lattice.order:
        yield Rule(RuleKind.LEVEL, what, sensitivity, lattice.span)
    for category in lattice.categories:
        yield Rule(RuleKind.CATEGORY, what, category, lattice.span)
