"""The policy as a value: what the whole system decides by.

Built by `shype.policy.loader` from YAML, or by `shype.policy.bundle` from the
compiled bundle on an enforcing host.  Every node keeps the span of its source,
so that a decision can name the line it follows from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from shype.policy.assertions import Assertion
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE, Mechanism
from shype.policy.names import (
    UNLABELED,
    UNLABELED_RESOURCE,
    CoalitionName,
    LabelName,
    MemberName,
    ResourceLabelName,
    VectorName,
    VerifierName,
    VmId,
    WallName,
)
from shype.policy.quotas import Quotas
from shype.policy.source import Span


class Enforcement(StrEnum):
    """How strongly a host enforces, weakest first (the policy demands a minimum)."""

    NONE = "none"
    PERMISSIVE = "permissive"
    ENFORCING = "enforcing"


@dataclass(frozen=True, slots=True)
class Coalition:
    """An STE type. Sailer et al., "Building a MAC-based security architecture for Xen", 2005.

    Two VMs that share it may use the ``mechanisms`` that it opens; every other
    stays closed between them.  ``write_up``: a VM may send to a higher level
    that it cannot read (blind), by the one-way mechanisms.  ``was``: its name
    in the policy that this one replaces.
    """

    name: CoalitionName
    span: Span
    mechanisms: frozenset[Mechanism] = OPENED
    write_up: bool = False
    was: CoalitionName | None = None


@dataclass(frozen=True, slots=True)
class Wall:
    """A Chinese Wall conflict set: of its members, one at a time runs on a host."""

    name: WallName
    members: frozenset[MemberName]
    span: Span
    was: WallName | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A VM label: its coalitions (STE types) and its members in walls (CHWALL types).

    ``level`` and ``integrity`` are None iff the policy has no such lattice, or
    for dom0's label, which handles every level.  A range that is not single
    makes the label trusted to keep the levels in it apart: only driver
    domains' labels and guards have one.  ``mechanisms``: those that are not
    switched off for this label.  ``was``: its name in the policy that this one
    replaces.  ``locked``: once a VM has been launched, dom0 reaches neither its memory nor its
    registers.  ``object_manager``: its VMs may ask the hypervisor what this policy says of their
    peers.  ``attested``: its VMs run only on hosts that a verifier has found trusted.
    ``vtpm``: each of its VMs has a TPM of its own, which dom0 serves.

    A guard's label has no coalitions: see `Guard`.
    """

    name: LabelName
    coalitions: frozenset[CoalitionName]
    members: frozenset[MemberName]
    span: Span
    level: LevelRange | None = None
    integrity: LevelRange | None = None
    mechanisms: frozenset[Mechanism] = SWITCHABLE
    was: LabelName | None = None
    locked: bool = False
    object_manager: bool = False
    attested: bool = False
    vtpm: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """A place where information may change coalition or level, in one direction only.

    Every guard is also a label of the same name in `Policy.labels`, which a
    VM carries.  It receives from members of ``source`` (whose level its own
    range's high end dominates) and sends to members of ``sink`` (whose level
    dominates its range's low end); what it lets through is its own
    responsibility, for which ``reason`` stands.  From ``expires`` on (that
    day included) it is refused.
    """

    name: LabelName
    source: CoalitionName
    sink: CoalitionName
    reason: str
    expires: date | None
    span: Span

    def expired(self, today: date) -> bool:
        """Whether it may not be used any more on ``today``."""
        return self.expires is not None and today >= self.expires


@dataclass(frozen=True, slots=True)
class Retired:
    """A label that the policy no longer has and a running VM may still carry (a tombstone).

    Such a VM shares with nobody, can be seen and ended, and none can start.
    ``members``: what it still holds of conflict sets while it runs.
    """

    name: LabelName
    span: Span
    members: frozenset[MemberName] = frozenset()


class ResourceKind(StrEnum):
    """What can be labelled beside VMs. The last four are the hypervisor's own objects."""

    DISK = "disk"
    NETWORK = "network"
    PCI = "pci"
    IRQ = "irq"
    IOPORT = "ioport"
    MEMORY = "memory"

    @property
    def physical(self) -> bool:
        """Whether the hypervisor itself mediates it (FLASK object contexts)."""
        return self not in (ResourceKind.DISK, ResourceKind.NETWORK)


@dataclass(frozen=True, slots=True)
class ResourceLabel:
    """What resources carry: coalitions and levels, as VMs; or nobody may use them at all.

    ``name`` is None for a label that is written inside the resource's own entry.
    ``level`` and ``integrity`` are None iff the policy has no such lattice, or
    ``inaccessible`` is true.
    """

    name: ResourceLabelName | None
    coalitions: frozenset[CoalitionName]
    span: Span
    level: Level | None = None
    integrity: Level | None = None
    inaccessible: bool = False
    was: ResourceLabelName | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """One entry of ``resources``: which resources of ``kind``, and the label that they carry.

    ``pattern`` is as written, in canonical spelling (`shype.policy.resources`).
    """

    kind: ResourceKind
    pattern: str
    label: ResourceLabel
    span: Span


class Updates(StrEnum):
    """When a host takes a new policy: at its next boot only, or also while it runs."""

    BOOT = "boot"
    LIVE = "live"


class Revocation(StrEnum):
    """What an update may do to flows that exist and that the new policy forbids, the gentlest
    first: nothing (it is refused), take devices away, pause VMs, destroy VMs."""

    REFUSE = "refuse"
    DETACH = "detach"
    PAUSE = "pause"
    DESTROY = "destroy"


class Lost(StrEnum):
    """What becomes of the VMs of attested labels on a host that is not trusted any more: they run
    on, are paused, or are migrated to a refuge (and paused if none takes them)."""

    KEEP = "keep"
    PAUSE = "pause"
    EVACUATE = "evacuate"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who appraises hosts (RFC 9334): the ``key``, 32 bytes in hexadecimal, signs its results."""

    name: VerifierName
    key: str
    span: Span


#: Longest time that a verifier's result can hold, seconds: a day.
LONGEST_RESULT = 86_400


@dataclass(frozen=True, slots=True)
class Attestation:
    """Whose word counts that a host is trusted, and what follows without it.

    A result counts for ``fresh`` seconds from its issue, and never longer than it says itself.
    ``refuges``: the hosts, as `shype migrate` names them, to which VMs are evacuated, the first
    that takes one; none unless ``lost`` is `Lost.EVACUATE`.
    """

    verifiers: Mapping[VerifierName, Verifier]
    span: Span
    fresh: int = 600
    lost: Lost = Lost.KEEP
    refuges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """Who runs the host: dom0's label, driver domains' labels, the least enforcement allowed.

    ``updates`` and ``revocation``: how it takes a new policy, and what then becomes of flows
    that exist.
    ``manager``: the label of the domain that has dom0's right to set booleans; None: dom0 has it.
    """

    dom0: LabelName
    drivers: frozenset[LabelName]
    minimum: Enforcement
    span: Span
    updates: Updates = Updates.BOOT
    revocation: Revocation = Revocation.REFUSE
    manager: LabelName | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """The policy's own word on which label a VM (by name or UUID) carries."""

    vm: VmId
    label: LabelName
    span: Span


@dataclass(frozen=True, slots=True)
class Vector:
    """A configuration vector of a static policy: the labels that may start while it is in force.

    After the configuration vectors of the Separation Kernel Protection Profile (U.S. Government
    SKPP 1.03, 2007): what a host may become is fixed when it boots, and named.
    """

    name: VectorName
    labels: frozenset[LabelName]
    span: Span


@dataclass(frozen=True, slots=True)
class Policy:
    """A valid policy. Mappings are keyed by name and keep the order of the file.

    ``walls`` may share members; ``labels`` includes dom0's, the drivers', the
    guards' and, if defined, the one named ``unlabeled``.  ``source`` is the
    file's name.  ``replaces`` is the version that this one replaces, ``was``
    the name that the policy had then (None: the same).  ``assertions`` decide
    nothing: whoever checks or builds the policy proves them, and a compiled
    bundle does not hold them.  ``static``: nothing of it changes on a running
    host but which of ``vectors`` is in force, at boot the first (none: every
    label may always start).  ``attestation`` is None if no label is attested.
    """

    name: str
    version: str
    source: str
    coalitions: Mapping[CoalitionName, Coalition]
    walls: Mapping[WallName, Wall]
    labels: Mapping[LabelName, Label]
    host: Host
    assignments: Mapping[VmId, Assignment] = field(default_factory=dict)
    levels: Lattice | None = None
    integrity: Lattice | None = None
    guards: Mapping[LabelName, Guard] = field(default_factory=dict)
    resource_labels: Mapping[ResourceLabelName, ResourceLabel] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    retired: Mapping[LabelName, Retired] = field(default_factory=dict)
    replaces: str | None = None
    was: str | None = None
    static: bool = False
    vectors: Mapping[VectorName, Vector] = field(default_factory=dict)
    attestation: Attestation | None = None
    quotas: Quotas | None = None
    assertions: tuple[Assertion, ...] = ()

    @property
    def guests(self) -> tuple[Label, ...]:
        """All labels that a VM may carry: every label but dom0's, in file order."""
        return tuple(label for name, label in self.labels.items() if name != self.host.dom0)

    @property
    def unlabeled(self) -> Label | None:
        """The label of VMs without one, or None: then such VMs do not start."""
        return self.labels.get(UNLABELED)

    @property
    def unlabeled_resources(self) -> ResourceLabel | None:
        """The label of resources that no entry names, or None: then nobody may use them."""
        return self.resource_labels.get(UNLABELED_RESOURCE)

    def coalitions_of(self, label: LabelName) -> frozenset[CoalitionName]:
        """All coalitions that a VM of this label takes part in, a guard's two included.

        The authorization rule asks for these: dom0 must have them all.
        """
        guard = self.guards.get(label)
        own = self.labels[label].coalitions
        return own if guard is None else own | {guard.source, guard.sink}

    @property
    def members(self) -> frozenset[MemberName]:
        """Every member of any conflict set."""
        return frozenset(member for wall in self.walls.values() for member in wall.members)
