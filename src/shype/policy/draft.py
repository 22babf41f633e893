"""A policy file as read so far: names with their spans, before any of them is believed.

What is not where it should be is left out (the structure's findings name it),
so that the meaning of all the rest can still be checked.  A section that is
missing or has the wrong type is ``None``: nothing can be said about references
into it.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass

from shype.policy.source import Span


@dataclass(frozen=True, slots=True)
class Ref:
    """A name, or another text, at a place."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class DraftRange:
    """``level`` or ``integrity`` as written: one text, or two (low, high); none if unreadable."""

    key: Ref
    ends: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class DraftLattice:
    """``levels`` or ``integrity`` of the policy; a part that is unreadable is None."""

    key: Ref
    order: tuple[Ref, ...] | None
    categories: tuple[Ref, ...] | None


@dataclass(frozen=True, slots=True)
class DraftCoalition:
    """A coalition; ``mechanisms`` is None if it opens all, ``write_up`` the key if it is true."""

    name: Ref
    mechanisms: tuple[Ref, ...] | None
    write_up: Ref | None
    was: Ref | None


@dataclass(frozen=True, slots=True)
class DraftWall:
    """A conflict set."""

    name: Ref
    members: tuple[Ref, ...]
    was: Ref | None


@dataclass(frozen=True, slots=True)
class DraftLabel:
    """A label; ``everything`` is its word ``all`` if it has it; no ``mechanisms``: all of them.

    ``locked``, ``object_manager``, ``attested``, ``vtpm``: the key if it is true.
    """

    name: Ref
    coalitions: tuple[Ref, ...]
    everything: Ref | None
    members: tuple[Ref, ...]
    level: DraftRange | None
    integrity: DraftRange | None
    mechanisms: tuple[Ref, ...] | None
    was: Ref | None
    locked: Ref | None = None
    object_manager: Ref | None = None
    attested: Ref | None = None
    vtpm: Ref | None = None


@dataclass(frozen=True, slots=True)
class DraftGuard:
    """A guard, and the label that its VMs carry (without coalitions)."""

    label: DraftLabel
    source: Ref | None
    sink: Ref | None
    reason: Ref | None
    expires: Ref | None


@dataclass(frozen=True, slots=True)
class DraftResourceLabel:
    """A resource label, or what stands in its place in an entry; ``inaccessible``: key if true."""

    name: Ref
    coalitions: tuple[Ref, ...]
    level: DraftRange | None
    integrity: DraftRange | None
    inaccessible: Ref | None
    was: Ref | None
    #: The keys that say what it carries, as they stand.
    said: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class DraftResource:
    """An entry of ``resources``: its kinds (one, if it is right), and its label."""

    span: Span
    kinds: tuple[tuple[Ref, Ref | None], ...]
    label: Ref | None
    label_written: bool
    inline: DraftResourceLabel


@dataclass(frozen=True, slots=True)
class DraftRetired:
    """A tombstone, and what its VMs hold of conflict sets."""

    name: Ref
    members: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class DraftVector:
    """A configuration vector; ``everything`` is its word ``all`` if it has it."""

    name: Ref
    labels: tuple[Ref, ...]
    everything: Ref | None


@dataclass(frozen=True, slots=True)
class DraftAttestation:
    """The section ``attestation``: its key, each verifier's name and key, and the rest."""

    key: Ref
    verifiers: tuple[tuple[Ref, Ref], ...]
    fresh: Ref | None
    lost: Ref | None
    refuges: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class DraftQuota:
    """A quota; ``name`` is the key under which it stands, and the rest texts by their keys."""

    name: Ref
    most: Map[str, Ref]
    reserved: Map[str, Ref]
    each: Map[str, Ref]


@dataclass(frozen=True, slots=True)
class DraftQuotas:
    """The section ``quotas``."""

    key: Ref
    host: DraftQuota | None
    coalitions: Map[str, DraftQuota]
    labels: Map[str, DraftQuota]


@dataclass(frozen=True, slots=True)
class DraftAssertion:
    """An entry of ``assert``: its keys, and the texts under each (None: not readable as such)."""

    span: Span
    keys: Map[str, Ref]
    said: Map[str, tuple[Ref, ...] | None]

    def texts(self, key: str) -> tuple[Ref, ...]:
        """The texts under ``key``; none if it is missing or unreadable."""
        return self.said.get(key) or ()


@dataclass(frozen=True, slots=True)
class Draft:
    """All sections of a policy."""

    name: Ref | None
    version: Ref | None
    replaces: Ref | None
    was: Ref | None
    coalitions: Map[str, DraftCoalition] | None
    walls: Map[str, DraftWall] | None
    levels: DraftLattice | None
    integrity: DraftLattice | None
    labels: Map[str, DraftLabel] | None
    guards: Map[str, DraftGuard]
    resource_labels: Map[str, DraftResourceLabel] | None
    resources: tuple[DraftResource, ...]
    retired: tuple[DraftRetired, ...]
    host: Ref | None
    dom0: Ref | None
    drivers: tuple[Ref, ...] | None
    updates: Ref | None
    revocation: Ref | None
    manager: Ref | None
    vms: Map[str, tuple[Ref, Ref]]
    static: Ref | None
    vectors: Map[str, DraftVector]
    attestation: DraftAttestation | None
    quotas: DraftQuotas | None
    assertions: tuple[DraftAssertion, ...]

    @property
    def carried(self) -> tuple[DraftLabel, ...]:
        """Every label that a VM can carry, dom0's and the guards' included."""
        return (*(self.labels or {}).values(), *(guard.label for guard in self.guards.values()))

    @property
    def walls_of(self) -> dict[str, list[str]]:
        """The conflict sets of each member."""
        result: dict[str, list[str]] = {}
        for name, wall in (self.walls or {}).items():
            for member in dict.fromkeys(ref.text for ref in wall.members):
                result.setdefault(member, []).append(name)
        return result
