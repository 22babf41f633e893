"""The policy as a value: what the whole system decides by.

Built by `shype.policy.loader` from YAML, or by `shype.policy.bundle` from the
compiled bundle on an enforcing host.  Every node keeps the span of its source,
so that a decision can name the line it follows from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shype.policy.names import UNLABELED, CoalitionName, LabelName, MemberName, VmId, WallName
from shype.policy.source import Span


class Enforcement(StrEnum):
    """How strongly a host enforces, weakest first (the policy demands a minimum)."""

    NONE = "none"
    PERMISSIVE = "permissive"
    ENFORCING = "enforcing"


@dataclass(frozen=True, slots=True)
class Coalition:
    """An STE type. Sailer et al., "Building a MAC-based security architecture for Xen", 2005."""

    name: CoalitionName
    span: Span


@dataclass(frozen=True, slots=True)
class Wall:
    """A Chinese Wall conflict set: of its members, one at a time runs on a host."""

    name: WallName
    members: frozenset[MemberName]
    span: Span


@dataclass(frozen=True, slots=True)
class Label:
    """A VM label: its coalitions (STE types) and its members in walls (CHWALL types)."""

    name: LabelName
    coalitions: frozenset[CoalitionName]
    members: frozenset[MemberName]
    span: Span


@dataclass(frozen=True, slots=True)
class Host:
    """Who runs the host: dom0's label, driver domains' labels, the least enforcement allowed."""

    dom0: LabelName
    drivers: frozenset[LabelName]
    minimum: Enforcement
    span: Span


@dataclass(frozen=True, slots=True)
class Assignment:
    """The policy's own word on which label a VM (by name or UUID) carries."""

    vm: VmId
    label: LabelName
    span: Span


@dataclass(frozen=True, slots=True)
class Policy:
    """A valid policy. Mappings are keyed by name and keep the order of the file.

    ``walls`` may share members; ``labels`` includes dom0's, the drivers' and,
    if defined, the one named ``unlabeled``.  ``source`` is the file's name.
    """

    name: str
    version: str
    source: str
    coalitions: Mapping[CoalitionName, Coalition]
    walls: Mapping[WallName, Wall]
    labels: Mapping[LabelName, Label]
    host: Host
    assignments: Mapping[VmId, Assignment] = field(default_factory=dict)

    @property
    def guests(self) -> tuple[Label, ...]:
        """All labels that a VM may carry: every label but dom0's, in file order."""
        return tuple(label for name, label in self.labels.items() if name != self.host.dom0)

    @property
    def unlabeled(self) -> Label | None:
        """The label of VMs without one, or None: then such VMs do not start."""
        return self.labels.get(UNLABELED)

    @property
    def members(self) -> frozenset[MemberName]:
        """Every member of any conflict set."""
        return frozenset(member for wall in self.walls.values() for member in wall.members)
