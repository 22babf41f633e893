"""May a VM use a disk, a network, a device? Its label and the resource's decide.

sHype's resource rule (a common STE type, ACMOP_getdecision of Xen's ACM) with
levels added: a VM reads what its level dominates, and writes what dominates
its level.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from shype.decision import wording
from shype.decision.decision import Decision
from shype.decision.ids import PERMISSIONS, DecisionId
from shype.decision.rights import Rights, confidential, flows
from shype.policy.lattice import Level, LevelRange
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import Policy, Resource, ResourceKind, ResourceLabel
from shype.policy.names import CoalitionName, LabelName
from shype.policy.resources import ResourceTable
from shype.policy.source import distinct


class Access(StrEnum):
    """What a VM does with a resource. WRITE alone is blind: nothing comes back."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read-write"


def use(
    policy: Policy, table: ResourceTable, label: LabelName, rights: Rights, kind: ResourceKind,
    name: str, access: Access, today: date | None,
) -> Decision:
    """May a VM with ``label`` (and its ``rights``) use the resource ``name``?

    Raises BadInput as `ResourceTable.match`.
    """
    return judge(policy, label, rights, kind, name, table.match(kind, name), access, today)


def judge(
    policy: Policy, label: LabelName, rights: Rights, kind: ResourceKind, name: str,
    entry: Resource | None, access: Access, today: date | None,
) -> Decision:
    """As `use`, for what ``entry`` names (None: no entry does); ``name`` is how it is shown."""
    found = policy.unlabeled_resources if entry is None else entry.label
    own = policy.labels[label].span if label in policy.labels else policy.retired[label].span
    what = f"{kind} {wording.printable(name)}"
    if found is None:
        return Decision(
            False, DecisionId.RESOURCE_UNLABELED,
            f"{label} may not use {what}: no entry under `resources` names it, and the policy has "
            "no resource label `unlabeled`.", (own,),
        )
    id = verdict(policy, rights, kind, found, access, today)
    where = (own,) if entry is None else (own, entry.span)
    shared = tuple(sorted(rights.coalitions & found.coalitions))
    places = (*where, found.span, *(policy.coalitions[c].span for c in shared))
    verb = {Access.READ: "read", Access.WRITE: "write to", Access.READ_WRITE: "use"}[access]
    may = "may" if id in PERMISSIONS else "may not"
    return Decision(
        id in PERMISSIONS, id,
        f"{label} {may} {verb} {what}: {_why(policy, id, rights, found, kind)}.",
        distinct(*places), shared if id in PERMISSIONS else (),
    )


def verdict(
    policy: Policy, rights: Rights, kind: ResourceKind, found: ResourceLabel, access: Access,
    today: date | None,
) -> DecisionId:
    """May a VM with these rights do ``access`` to a resource of ``kind`` labelled ``found``?"""
    if rights.retired:
        return DecisionId.LABEL_RETIRED
    if found.inaccessible:
        return DecisionId.RESOURCE_INACCESSIBLE
    if rights.guard is not None and today is not None and rights.guard.expired(today):
        return DecisionId.GUARD_EXPIRED
    if kind is ResourceKind.NETWORK and Mechanism.NETWORK not in rights.mechanisms:
        return DecisionId.MECHANISM_OFF
    reading, writing = _sides(rights, found, access)
    if not reading or not writing:
        other = rights.coalitions & found.coalitions
        return DecisionId.GUARD_DIRECTION if other else DecisionId.RESOURCE_DISJOINT
    if kind is ResourceKind.NETWORK and not any(
        Mechanism.NETWORK in policy.coalitions[name].mechanisms for name in reading | writing
    ):
        return DecisionId.MECHANISM_CLOSED
    blind = any(policy.coalitions[name].write_up for name in writing)
    return _by_level(rights, rights_of(found), access, blind)


def _sides(
    rights: Rights, found: ResourceLabel, access: Access
) -> tuple[frozenset[CoalitionName], frozenset[CoalitionName]]:
    """The coalitions by which the VM may read and write; a guard reads its source's only."""
    shared = rights.coalitions & found.coalitions
    if rights.guard is None:
        return shared, shared
    reading, writing = shared & {rights.guard.source}, shared & {rights.guard.sink}
    if access is Access.READ:
        return reading, reading
    return (writing, writing) if access is Access.WRITE else (reading, writing)


def _by_level(vm: Rights, resource: Rights, access: Access, blind: bool) -> DecisionId:
    reads, writes = flows(resource, vm), flows(vm, resource)
    if access is not Access.WRITE and not reads:
        down = confidential(resource, vm)
        return DecisionId.BIBA_READ_DOWN if down else DecisionId.MLS_READ_UP
    if access is not Access.READ and not writes:
        up = confidential(vm, resource)
        return DecisionId.BIBA_WRITE_UP if up else DecisionId.MLS_WRITE_DOWN
    if access is Access.WRITE and not reads and not blind and vm.guard is None:
        same = confidential(resource, vm)
        return DecisionId.BIBA_WRITE_DOWN if same else DecisionId.MLS_WRITE_UP
    return DecisionId.RESOURCE_SHARED


def rights_of(label: ResourceLabel) -> Rights:
    """A resource's label in the form of a VM's."""
    return Rights(label.coalitions, SWITCHABLE, _single(label.level), _single(label.integrity))


def _single(level: Level | None) -> LevelRange | None:
    return None if level is None else LevelRange(level, level)


def _why(
    policy: Policy, id: DecisionId, rights: Rights, found: ResourceLabel, kind: ResourceKind
) -> str:
    shared = sorted(rights.coalitions & found.coalitions)
    match id:
        case DecisionId.LABEL_RETIRED:
            return "the label is retired"
        case DecisionId.RESOURCE_INACCESSIBLE:
            return "the policy makes it inaccessible to all"
        case DecisionId.GUARD_EXPIRED:
            return "the guard has expired"
        case DecisionId.MECHANISM_OFF:
            return f"{kind} is switched off for this label"
        case DecisionId.MECHANISM_CLOSED:
            return f"{wording.coalitions(shared)} opens no {kind}"
        case DecisionId.RESOURCE_DISJOINT:
            return "no coalition in common"
        case DecisionId.GUARD_DIRECTION:
            return "a guard reads from its source's side and writes to its sink's"
    levels = _levels(policy, rights, found)
    if id is DecisionId.RESOURCE_SHARED:
        return f"they share {wording.coalitions(shared)}" + (f" ({levels})" if levels else "")
    return f"their levels do not allow it ({levels})"


def _levels(policy: Policy, rights: Rights, found: ResourceLabel) -> str:
    resource = rights_of(found)
    parts = []
    for what, lattice, mine, its in (
        ("", policy.levels, rights.level, resource.level),
        ("integrity ", policy.integrity, rights.integrity, resource.integrity),
    ):
        if lattice is not None and mine is not None and its is not None:
            parts.append(
                f"the VM has {what}{lattice.show_range(mine)}, "
                f"the resource {what}{lattice.show_range(its)}"
            )
    return "; ".join(parts)
