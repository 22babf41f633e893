"""The model of a draft that has no errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from shype.policy import asserting, grammar, resources
from shype.policy.draft import (
    Draft,
    DraftAttestation,
    DraftLabel,
    DraftQuota,
    DraftQuotas,
    DraftRange,
    DraftResource,
    DraftResourceLabel,
    DraftVector,
    Ref,
)
from shype.policy.lattice import Lattice, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE, Mechanism
from shype.policy.model import (
    Assignment,
    Attestation,
    Coalition,
    Enforcement,
    Guard,
    Host,
    Label,
    Lost,
    Policy,
    Resource,
    ResourceKind,
    ResourceLabel,
    Retired,
    Revocation,
    Updates,
    Vector,
    Verifier,
    Wall,
)
from shype.policy.names import (
    CoalitionName,
    LabelName,
    MemberName,
    ResourceLabelName,
    VectorName,
    VerifierName,
    VmId,
    WallName,
)
from shype.policy.quotas import Amount, Each, Quota, Quotas, percent
from shype.policy.quotas import read as amount
from shype.policy.rules import lattice, level_range
from shype.policy.source import Span

_N = TypeVar("_N", bound=str)


def policy(read: Draft, file: str) -> Policy:
    """The policy that ``read`` means. ``read`` must have no errors; ``file`` is its name."""
    return _Builder(read).policy(file)


class _Builder:
    """A draft, and what all parts of its model share."""

    def __init__(self, read: Draft) -> None:
        self._read = read
        self._levels = lattice(read.levels)
        self._integrity = lattice(read.integrity)
        self._coalitions = {
            CoalitionName(name): Coalition(
                CoalitionName(name), entry.name.span, _mechanisms(entry.mechanisms, OPENED),
                entry.write_up is not None, _was(CoalitionName, entry.was),
            )
            for name, entry in (read.coalitions or {}).items()
        }
        self._everything = frozenset(self._coalitions)
        self._resource_labels = {
            ResourceLabelName(name): self._resource_label(
                entry, ResourceLabelName(name), entry.name.span
            )
            for name, entry in (read.resource_labels or {}).items()
        }

    def policy(self, file: str) -> Policy:
        read = self._read
        assert read.name is not None
        assert read.version is not None
        assert read.host is not None
        assert read.dom0 is not None
        return Policy(
            name=read.name.text,
            version=read.version.text,
            source=file,
            coalitions=self._coalitions,
            walls={
                WallName(name): Wall(
                    WallName(name), frozenset(MemberName(ref.text) for ref in wall.members),
                    wall.name.span, _was(WallName, wall.was),
                )
                for name, wall in (read.walls or {}).items()
            },
            labels={LabelName(entry.name.text): self._label(entry) for entry in read.carried},
            host=Host(
                LabelName(read.dom0.text),
                frozenset(LabelName(ref.text) for ref in read.drivers or ()),
                Enforcement.ENFORCING,
                read.host.span,
                Updates(read.updates.text) if read.updates else Updates.BOOT,
                Revocation(read.revocation.text) if read.revocation else Revocation.REFUSE,
                None if read.manager is None else LabelName(read.manager.text),
            ),
            assignments={
                VmId(vm.text): Assignment(VmId(vm.text), LabelName(name.text), vm.span)
                for vm, name in read.vms.values()
            },
            levels=self._levels,
            integrity=self._integrity,
            guards=dict(self._guards()),
            resource_labels=self._resource_labels,
            resources=tuple(self._resource(entry) for entry in read.resources),
            retired={
                LabelName(tomb.name.text): Retired(
                    LabelName(tomb.name.text), tomb.name.span,
                    frozenset(MemberName(ref.text) for ref in tomb.members),
                )
                for tomb in read.retired
            },
            replaces=None if read.replaces is None else read.replaces.text,
            was=None if read.was is None else read.was.text,
            static=read.static is not None,
            vectors={VectorName(name): self._vector(entry) for name, entry in read.vectors.items()},
            attestation=None if read.attestation is None else _attestation(read.attestation),
            quotas=None if read.quotas is None else _quotas(read.quotas),
            assertions=tuple(map(asserting.assertion, read.assertions)),
        )

    def _label(self, entry: DraftLabel) -> Label:
        return Label(
            LabelName(entry.name.text),
            self._everything if entry.everything is not None else _coalitions(entry.coalitions),
            frozenset(MemberName(ref.text) for ref in entry.members),
            entry.name.span,
            _range(self._levels, entry.level),
            _range(self._integrity, entry.integrity),
            _mechanisms(entry.mechanisms, SWITCHABLE),
            _was(LabelName, entry.was),
            entry.locked is not None,
            entry.object_manager is not None,
            entry.attested is not None,
            entry.vtpm is not None,
        )

    def _vector(self, entry: DraftVector) -> Vector:
        named = (ref.text for ref in entry.labels)
        if entry.everything is not None:
            own = self._read.dom0
            named = (
                label.name.text for label in self._read.carried
                if own is None or label.name.text != own.text
            )
        return Vector(
            VectorName(entry.name.text), frozenset(map(LabelName, named)), entry.name.span
        )

    def _resource_label(
        self, entry: DraftResourceLabel, name: ResourceLabelName | None, span: Span
    ) -> ResourceLabel:
        level = _range(self._levels, entry.level)
        integrity = _range(self._integrity, entry.integrity)
        return ResourceLabel(
            name, _coalitions(entry.coalitions), span,
            None if level is None else level.low,
            None if integrity is None else integrity.low,
            entry.inaccessible is not None,
            _was(ResourceLabelName, entry.was),
        )

    def _resource(self, entry: DraftResource) -> Resource:
        (key, value), *_ = entry.kinds
        assert value is not None
        kind = ResourceKind(key.text)
        return Resource(
            kind, resources.canonical(kind, value.text),
            self._resource_labels[ResourceLabelName(entry.label.text)] if entry.label is not None
            else self._resource_label(entry.inline, None, entry.span),
            entry.span,
        )

    def _guards(self) -> Iterable[tuple[LabelName, Guard]]:
        for name, guard in self._read.guards.items():
            assert guard.source is not None
            assert guard.sink is not None
            assert guard.reason is not None
            yield LabelName(name), Guard(
                LabelName(name), CoalitionName(guard.source.text), CoalitionName(guard.sink.text),
                guard.reason.text,
                None if guard.expires is None else grammar.as_date(guard.expires.text),
                guard.label.name.span,
            )


def _attestation(section: DraftAttestation) -> Attestation:
    verifiers = {}
    for name, key in section.verifiers:
        found = grammar.as_key(key.text)
        assert found is not None
        verifiers[VerifierName(name.text)] = Verifier(VerifierName(name.text), found, name.span)
    fresh = None if section.fresh is None else grammar.as_seconds(section.fresh.text)
    return Attestation(
        verifiers, section.key.span, 600 if fresh is None else fresh,
        Lost.KEEP if section.lost is None else Lost(section.lost.text),
        tuple(ref.text for ref in section.refuges),
    )


def _quotas(section: DraftQuotas) -> Quotas:
    return Quotas(
        section.key.span, None if section.host is None else _quota(section.host),
        {CoalitionName(name): _quota(entry) for name, entry in section.coalitions.items()},
        {LabelName(name): _quota(entry) for name, entry in section.labels.items()},
    )


def _quota(entry: DraftQuota) -> Quota:
    def amounts(refs: Mapping[str, Ref]) -> dict[Amount, int]:
        return {a: number for a in Amount
                if a in refs and (number := amount(a, refs[a].text)) is not None}

    cpu, weight = entry.each.get("cpu"), entry.each.get("weight")
    return Quota(entry.name.span, amounts(entry.most), amounts(entry.reserved), Each(
        None if cpu is None else percent(cpu.text), None if weight is None else int(weight.text),
        amounts(entry.each).get(Amount.BANDWIDTH),
    ))


def _coalitions(refs: Iterable[Ref]) -> frozenset[CoalitionName]:
    return frozenset(CoalitionName(ref.text) for ref in refs)


def _mechanisms(
    refs: Iterable[Ref] | None, default: frozenset[Mechanism]
) -> frozenset[Mechanism]:
    return default if refs is None else frozenset(Mechanism(ref.text) for ref in refs)


def _was(name: Callable[[str], _N], ref: Ref | None) -> _N | None:
    return None if ref is None else name(ref.text)


def _range(points: Lattice | None, draft: DraftRange | None) -> LevelRange | None:
    found = level_range(points, draft)
    assert (found is None) == (draft is None)
    return found
