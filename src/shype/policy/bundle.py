"""The policy as JSON: what ``policy.json`` in a compiled bundle holds.

Standard library only, because the agent on an enforcing host reads this and
never YAML.  Lists keep the order of the policy file (canonical JSON sorts the
keys of objects), sets are sorted, a level is its rank and categories, and a
span is ``[file, line, column]``.

Reading trusts nothing: `policy_from_json` re-checks every rule that decisions
rely on, so that a damaged or forged bundle is refused and never half used.
"""

from __future__ import annotations

from datetime import date

from shype.policy import grammar
from shype.policy.bundle_attestation import attestation, attestation_out
from shype.policy.bundle_levels import lattice, lattice_out, level_range, range_out
from shype.policy.bundle_quotas import quotas, quotas_out
from shype.policy.bundle_resources import resource, resource_label, resource_label_out, resource_out
from shype.policy.bundle_rules import check
from shype.policy.json_values import (
    corrupt,
    flag,
    items,
    keyed,
    name,
    name_or_none,
    names,
    obj,
    span,
    span_out,
    spelled,
    text,
)
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import (
    Assignment,
    Coalition,
    Enforcement,
    Guard,
    Host,
    Label,
    Policy,
    Retired,
    Revocation,
    Updates,
    Vector,
    Wall,
)
from shype.policy.names import (
    CoalitionName,
    LabelName,
    MemberName,
    ResourceLabelName,
    VectorName,
    VmId,
    WallName,
)

#: Raised whenever the shape changes. 2: levels, guards, mechanisms, resources, updates.
#: 3: static policies, locked labels. 4: live updates. 5: object managers.
#: 6: attested labels. 7: quotas. 8: virtual TPMs.
FORMAT = 8


def policy_to_json(policy: Policy) -> dict[str, object]:
    """``policy`` as JSON values; `policy_from_json` gives back an equal policy."""
    return {
        "format": FORMAT,
        "name": policy.name,
        "version": policy.version,
        "source": policy.source,
        "replaces": policy.replaces,
        "was": policy.was,
        "coalitions": [
            {
                "name": c.name, "mechanisms": sorted(c.mechanisms), "write_up": c.write_up,
                "was": c.was, "span": span_out(c.span),
            }
            for c in policy.coalitions.values()
        ],
        "walls": [
            {"name": w.name, "members": sorted(w.members), "was": w.was, "span": span_out(w.span)}
            for w in policy.walls.values()
        ],
        "levels": lattice_out(policy.levels),
        "integrity": lattice_out(policy.integrity),
        "labels": [
            {
                "name": label.name, "coalitions": sorted(label.coalitions),
                "members": sorted(label.members), "level": range_out(label.level),
                "integrity": range_out(label.integrity), "mechanisms": sorted(label.mechanisms),
                "was": label.was, "locked": label.locked,
                "object-manager": label.object_manager, "attested": label.attested,
                "vtpm": label.vtpm, "span": span_out(label.span),
            }
            for label in policy.labels.values()
        ],
        "guards": [
            {
                "name": g.name, "from": g.source, "to": g.sink, "reason": g.reason,
                "expires": None if g.expires is None else g.expires.isoformat(),
                "span": span_out(g.span),
            }
            for g in policy.guards.values()
        ],
        "resource_labels": [resource_label_out(one) for one in policy.resource_labels.values()],
        "resources": [resource_out(one) for one in policy.resources],
        "retired": [
            {"name": one.name, "members": sorted(one.members), "span": span_out(one.span)}
            for one in policy.retired.values()
        ],
        "host": {
            "dom0": policy.host.dom0, "drivers": sorted(policy.host.drivers),
            "minimum": str(policy.host.minimum), "span": span_out(policy.host.span),
            "updates": str(policy.host.updates), "revocation": str(policy.host.revocation),
            "manager": policy.host.manager,
        },
        "assignments": [
            {"vm": a.vm, "label": a.label, "span": span_out(a.span)}
            for a in policy.assignments.values()
        ],
        "static": policy.static,
        "vectors": [
            {"name": v.name, "labels": sorted(v.labels), "span": span_out(v.span)}
            for v in policy.vectors.values()
        ],
        "attestation": attestation_out(policy.attestation),
        "quotas": quotas_out(policy.quotas),
    }


def policy_from_json(value: object) -> Policy:
    """The policy that `policy_to_json` wrote as ``value``.

    Raises BadInput (``bundle.corrupt``) for anything else: a wrong type, a key
    too many or too few, a bad name, or a rule of the language that is broken.
    """
    top = obj(
        value, "policy",
        "format", "name", "version", "source", "replaces", "was", "coalitions", "walls", "levels",
        "integrity", "labels", "guards", "resource_labels", "resources", "retired", "host",
        "assignments", "static", "vectors", "attestation", "quotas",
    )
    if type(top["format"]) is not int or top["format"] != FORMAT:
        corrupt(f"the policy's format is not {FORMAT}")
    replaces = top["replaces"]
    resource_labels = keyed(
        top["resource_labels"], "resource_labels", resource_label, lambda one: _named(one.name)
    )
    policy = Policy(
        name=name(top["name"], "policy.name"),
        version=spelled(top["version"], "policy.version", grammar.is_version),
        source=text(top["source"], "policy.source"),
        coalitions=keyed(top["coalitions"], "coalitions", _coalition, lambda c: c.name),
        walls=keyed(top["walls"], "walls", _wall, lambda w: w.name),
        labels=keyed(top["labels"], "labels", _label, lambda label: label.name),
        host=_host(top["host"]),
        assignments=keyed(top["assignments"], "assignments", _assignment, lambda a: a.vm),
        levels=lattice(top["levels"], "levels"),
        integrity=lattice(top["integrity"], "integrity"),
        guards=keyed(top["guards"], "guards", _guard, lambda g: g.name),
        resource_labels=resource_labels,
        resources=tuple(
            resource(one, f"resources[{index}]", resource_labels)
            for index, one in enumerate(items(top["resources"], "resources"))
        ),
        retired=keyed(top["retired"], "retired", _retired, lambda one: one.name),
        replaces=None if replaces is None
        else spelled(replaces, "policy.replaces", grammar.is_version),
        was=name_or_none(top["was"], "policy.was"),
        static=flag(top["static"], "static"),
        vectors=keyed(top["vectors"], "vectors", _vector, lambda v: v.name),
        attestation=attestation(top["attestation"]),
        quotas=quotas(top["quotas"]),
    )
    check(policy)
    return policy


# -- parts ---------------------------------------------------------------------------------------


def _coalition(value: object, where: str) -> Coalition:
    entry = obj(value, where, "name", "mechanisms", "write_up", "was", "span")
    return Coalition(
        CoalitionName(name(entry["name"], where)),
        span(entry["span"], where),
        _mechanisms(entry["mechanisms"], where),
        flag(entry["write_up"], f"{where}.write_up"),
        _coalition_name(entry["was"], where),
    )


def _coalition_name(value: object, where: str) -> CoalitionName | None:
    return None if value is None else CoalitionName(name(value, where))


def _mechanisms(value: object, where: str) -> frozenset[Mechanism]:
    found = names(value, f"{where}.mechanisms")
    if not set(found) <= SWITCHABLE:
        corrupt(f"{where}.mechanisms names one that cannot be switched")
    return frozenset(Mechanism(one) for one in found)


def _wall(value: object, where: str) -> Wall:
    entry = obj(value, where, "name", "members", "was", "span")
    return Wall(
        WallName(name(entry["name"], where)),
        frozenset(MemberName(n) for n in names(entry["members"], f"{where}.members")),
        span(entry["span"], where),
        None if entry["was"] is None else WallName(name(entry["was"], where)),
    )


def _label(value: object, where: str) -> Label:
    entry = obj(
        value, where, "name", "coalitions", "members", "level", "integrity", "mechanisms", "was",
        "locked", "object-manager", "attested", "vtpm", "span",
    )
    return Label(
        LabelName(name(entry["name"], where)),
        frozenset(CoalitionName(n) for n in names(entry["coalitions"], f"{where}.coalitions")),
        frozenset(MemberName(n) for n in names(entry["members"], f"{where}.members")),
        span(entry["span"], where),
        level_range(entry["level"], f"{where}.level"),
        level_range(entry["integrity"], f"{where}.integrity"),
        _mechanisms(entry["mechanisms"], where),
        None if entry["was"] is None else LabelName(name(entry["was"], where)),
        flag(entry["locked"], f"{where}.locked"),
        flag(entry["object-manager"], f"{where}.object-manager"),
        flag(entry["attested"], f"{where}.attested"),
        flag(entry["vtpm"], f"{where}.vtpm"),
    )


def _guard(value: object, where: str) -> Guard:
    entry = obj(value, where, "name", "from", "to", "reason", "expires", "span")
    return Guard(
        LabelName(name(entry["name"], where)),
        CoalitionName(name(entry["from"], where)),
        CoalitionName(name(entry["to"], where)),
        spelled(entry["reason"], f"{where}.reason", grammar.is_reason),
        _day(entry["expires"], f"{where}.expires"),
        span(entry["span"], where),
    )


def _day(value: object, where: str) -> date | None:
    if value is None:
        return None
    day = grammar.as_date(text(value, where))
    if day is None:
        corrupt(f"{where} is not a day")
    return day


def _named(found: ResourceLabelName | None) -> ResourceLabelName:
    if found is None:
        corrupt("a resource label has no name")
    return found


def _retired(value: object, where: str) -> Retired:
    entry = obj(value, where, "name", "members", "span")
    return Retired(
        LabelName(name(entry["name"], where)), span(entry["span"], where),
        frozenset(MemberName(one) for one in names(entry["members"], f"{where}.members")),
    )


def _vector(value: object, where: str) -> Vector:
    entry = obj(value, where, "name", "labels", "span")
    return Vector(
        VectorName(name(entry["name"], where)),
        frozenset(LabelName(one) for one in names(entry["labels"], f"{where}.labels")),
        span(entry["span"], where),
    )


def _host(value: object) -> Host:
    entry = obj(
        value, "host", "dom0", "drivers", "minimum", "span", "updates", "revocation", "manager")
    if entry["minimum"] != str(Enforcement.ENFORCING):
        corrupt("host.minimum is not `enforcing`")
    return Host(
        LabelName(name(entry["dom0"], "host.dom0")),
        frozenset(LabelName(one) for one in names(entry["drivers"], "host.drivers")),
        Enforcement.ENFORCING,
        span(entry["span"], "host"),
        Updates(spelled(entry["updates"], "host.updates", {*Updates}.__contains__)),
        Revocation(spelled(entry["revocation"], "host.revocation", {*Revocation}.__contains__)),
        None if entry["manager"] is None else LabelName(name(entry["manager"], "host.manager")),
    )


def _assignment(value: object, where: str) -> Assignment:
    entry = obj(value, where, "vm", "label", "span")
    return Assignment(
        VmId(spelled(entry["vm"], where, grammar.is_vm)),
        LabelName(name(entry["label"], where)),
        span(entry["span"], where),
    )
