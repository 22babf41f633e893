"""The rules of the language that decisions rely on, checked again on what a bundle holds."""

from __future__ import annotations

from collections.abc import Iterable

from shype.policy import bundle_attestation, bundle_quotas, grammar, resources
from shype.policy.json_values import corrupt
from shype.policy.lattice import Lattice, LevelRange
from shype.policy.model import Label, Policy, Revocation, Updates
from shype.policy.names import UNLABELED


def check(policy: Policy) -> None:
    """Raises BadInput (``bundle.corrupt``) if ``policy`` breaks a rule."""
    _coalitions(policy)
    _walls(policy)
    _host(policy)
    _guards(policy)
    _levels(policy)
    _resources(policy)
    _updates(policy)
    _vectors(policy)
    bundle_attestation.check(policy)
    _tpms(policy)
    bundle_quotas.check(policy)


def _tpms(policy: Policy) -> None:
    labels = {label.name for label in policy.labels.values() if label.vtpm}
    if labels & {policy.host.dom0, policy.host.manager, UNLABELED}:
        corrupt("dom0's label, the manager's or `unlabeled` has a TPM for its VMs")


def _coalitions(policy: Policy) -> None:
    if not policy.coalitions or grammar.ALL in policy.coalitions:
        corrupt("the coalitions are empty or include one named `all`")
    for label in policy.labels.values():
        if not label.coalitions <= policy.coalitions.keys():
            corrupt(f"the label `{label.name}` names an undeclared coalition")


def _walls(policy: Policy) -> None:
    for wall in policy.walls.values():
        if len(wall.members) < 2:
            corrupt(f"the conflict set `{wall.name}` has fewer than two members")
    members = policy.members
    for label in policy.labels.values():
        if not label.members <= members:
            corrupt(f"the label `{label.name}` names an undeclared member")
        for wall in policy.walls.values() if len(label.members) > 1 else ():
            if len(label.members & wall.members) > 1:
                corrupt(f"the label `{label.name}` conflicts with itself in `{wall.name}`")


def _levels(policy: Policy) -> None:
    for section, lattice in (("levels", policy.levels), ("integrity", policy.integrity)):
        if lattice is None:
            continue
        for part in (lattice.order, lattice.categories):
            if len(part) > grammar.LATTICE_LIMIT:
                corrupt(f"{section} has more than {grammar.LATTICE_LIMIT} names")
        if not lattice.order or grammar.ALL in lattice.categories:
            corrupt(f"{section} has no order, or a category named `all`")
    for label in policy.labels.values():
        _level(policy, label, policy.levels, label.level, "level")
        _level(policy, label, policy.integrity, label.integrity, "integrity")


def _level(
    policy: Policy, label: Label, lattice: Lattice | None, levels: LevelRange | None, what: str
) -> None:
    needed = lattice is not None and label.name != policy.host.dom0
    if (levels is not None) != needed:
        corrupt(f"the label `{label.name}` has {'no ' if needed else 'a '}{what}")
    if lattice is None or levels is None:
        return
    if not (lattice.contains(levels.low) and lattice.contains(levels.high)):
        corrupt(f"the {what} of `{label.name}` is not declared")
    if not levels.high.dominates(levels.low):
        corrupt(f"the {what} of `{label.name}` is a range that does not go upwards")
    trusted = label.name in policy.host.drivers or label.name in policy.guards
    if not levels.single and not trusted:
        corrupt(f"`{label.name}` has a range as its {what} and is not trusted")


def _guards(policy: Policy) -> None:
    for guard in policy.guards.values():
        label = policy.labels.get(guard.name)
        if label is None or label.coalitions:
            corrupt(f"the guard `{guard.name}` has no label, or one with coalitions")
        if guard.source == guard.sink or not {guard.source, guard.sink} <= policy.coalitions.keys():
            corrupt(f"the guard `{guard.name}` does not join two declared coalitions")
        if guard.name in (policy.host.dom0, UNLABELED) or guard.name in policy.host.drivers:
            corrupt(f"the guard `{guard.name}` is dom0's label, a driver domain's or `unlabeled`")


def _host(policy: Policy) -> None:
    host = policy.host
    if host.dom0 not in policy.labels or host.dom0 == UNLABELED:
        corrupt("dom0's label is undeclared or `unlabeled`")
    if policy.labels[host.dom0].members or policy.labels[host.dom0].locked:
        corrupt("dom0's label has wall members, or is locked")
    for name in (host.dom0, UNLABELED):
        if name in policy.labels and policy.labels[name].object_manager:
            corrupt(f"the label `{name}` is an object manager")
    if not host.drivers <= policy.labels.keys() - {host.dom0, UNLABELED}:
        corrupt("a driver domain's label is undeclared, dom0's or `unlabeled`")
    if host.manager is not None:
        label = policy.labels.get(host.manager)
        others = {host.dom0, UNLABELED, *host.drivers, *policy.guards}
        if label is None or not label.locked or label.coalitions or label.members:
            corrupt("the manager's label is undeclared, open, or shares with somebody")
        if host.manager in others or policy.static:
            corrupt("the manager's label is another's, or the policy is static")
    for assignment in policy.assignments.values():
        if assignment.label not in policy.labels or assignment.label == host.dom0:
            corrupt(f"the VM `{assignment.vm}` has an undeclared label or dom0's")


def _resources(policy: Policy) -> None:
    labels = [*policy.resource_labels.values(), *(entry.label for entry in policy.resources)]
    for label in labels:
        if label.inaccessible and (label.coalitions or label.level or label.integrity):
            corrupt("a resource is inaccessible, and has coalitions or levels")
        if not label.coalitions <= policy.coalitions.keys():
            corrupt("a resource label names an undeclared coalition")
        for lattice, level in ((policy.levels, label.level), (policy.integrity, label.integrity)):
            if (level is not None) != (lattice is not None and not label.inaccessible):
                corrupt("a resource label has no level, or one without need")
            if lattice is not None and level is not None and not lattice.contains(level):
                corrupt("the level of a resource label is not declared")
    entries = [(e.kind, e.pattern, resources.label_key(e.label)) for e in policy.resources]
    try:
        if next(resources.conflicts(entries), None) is not None:
            corrupt("two entries label one resource differently")
    except resources.TooManyPatterns:
        corrupt("the patterns of resources are too many")


def _vectors(policy: Policy) -> None:
    if policy.vectors and not policy.static:
        corrupt("there are vectors, and the policy is not static")
    if len(policy.vectors) > grammar.VECTOR_LIMIT:
        corrupt(f"there are more than {grammar.VECTOR_LIMIT} vectors")
    for vector in policy.vectors.values():
        if not vector.labels <= policy.labels.keys() - {policy.host.dom0}:
            corrupt(f"the vector `{vector.name}` names an undeclared label, or dom0's")


def _updates(policy: Policy) -> None:
    if policy.host.updates is Updates.LIVE:
        if policy.static:
            corrupt("a static policy has live updates")
    elif policy.host.revocation is not Revocation.REFUSE:
        corrupt("there is a revocation, and there are no live updates")
    old, new = policy.replaces, policy.version
    if old is not None and grammar.version_order(old) >= grammar.version_order(new):
        corrupt(f"version {new} cannot replace version {old}")
    if policy.was == policy.name:
        corrupt("the policy was named as it is")
    gone = policy.retired.keys()
    for tomb in policy.retired.values():
        if not tomb.members <= policy.members:
            corrupt(f"the retired label `{tomb.name}` holds an undeclared member")
    if not gone.isdisjoint(policy.labels) or not gone.isdisjoint(
        label.was for label in policy.labels.values() if label.was is not None
    ):
        corrupt("a retired label is still there, or renamed")
    _renamed("label", (label.was for label in policy.labels.values()), policy.labels)
    _renamed("resource label", (r.was for r in policy.resource_labels.values()),
             policy.resource_labels)
    _renamed("coalition", (c.was for c in policy.coalitions.values()), policy.coalitions)
    _renamed("conflict set", (wall.was for wall in policy.walls.values()), policy.walls)


def _renamed(kind: str, claims: Iterable[str | None], present: Iterable[str]) -> None:
    old = [name for name in claims if name is not None]
    if len(set(old)) != len(old) or not set(old).isdisjoint(present):
        corrupt(f"a {kind} was renamed twice, or is still there")
