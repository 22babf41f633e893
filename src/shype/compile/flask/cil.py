"""From a policy to CIL, the input language of secilc. Same policy and tables, same text."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from shype.base.errors import BadInput
from shype.compile.flask import encoding as enc
from shype.compile.flask import rules
from shype.compile.flask.rules import Allow
from shype.compile.flask.tables import Tables
from shype.policy.model import Policy

#: Types and attributes share 16 bits in the hypervisor's rule table (avtab keys).
MAX_TYPES = 65_000


def generate(policy: Policy, tables: Tables) -> str:
    """The whole policy in CIL, without the digest boolean.

    Raises `BadInput`: ``target.unknown-permission``, ``target.unknown-sid``,
    ``compile.too-many-labels``.
    """
    if len(policy.labels) + len(policy.coalitions) > MAX_TYPES:
        raise BadInput(
            "compile.too-many-labels",
            f"{len(policy.labels)} labels and {len(policy.coalitions)} coalitions are more than "
            f"the {MAX_TYPES} types that the hypervisor can tell apart",
            "split the policy: a host needs only the labels of the VMs that it may run",
        )
    attributes = _attributes(policy)
    idle = {name for name, members in attributes.items() if not members}
    idle |= {enc.SELF_TYPE} if not attributes[enc.ALL_LABELS] else set()
    idle |= {enc.CHANNEL_TYPE} if not attributes[enc.MANAGED] else set()
    lines = [
        f"; shype policy {policy.name} {policy.version} for {tables.target}",
        *_head(tables),
        *_types(policy, tables),
        *_membership(attributes),
        *_section("The hypervisor and dom0", rules.BOOT, tables, idle),
        *_section("VMs on themselves", rules.VM, tables, idle),
        *_section("Cleanup, never refused", rules.CLEANUP, tables, idle),
        *_section("dom0 and the VMs it may run", rules.MANAGE, tables, idle),
    ]
    for coalition in policy.coalitions:
        name = enc.coalition_attribute(coalition)
        lines += _section(f"Coalition {coalition}", rules.sharing(name), tables, idle)
    lines += _transitions(policy)
    lines += _windows(policy, tables)
    return "\n".join(lines) + "\n"


def _attributes(policy: Policy) -> dict[str, list[str]]:
    """Attributes that have members: secilc refuses empty ones."""
    sets = {
        enc.ALL_LABELS: [enc.type_of(label.name) for label in policy.guests],
        enc.MANAGED: [enc.type_of(label.name) for label in enc.managed(policy)],
    }
    sets |= {enc.coalition_attribute(coalition): [] for coalition in policy.coalitions}
    for label in policy.guests:
        for coalition in sorted(label.coalitions):
            sets[enc.coalition_attribute(coalition)].append(enc.type_of(label.name))
    return sets


def _head(tables: Tables) -> Iterator[str]:
    yield "(handleunknown deny)"
    yield "(mls true)"
    for name, permissions in tables.classes.items():
        yield f"(class {name} ({' '.join(permissions)}))"
    yield f"(classorder ({' '.join(tables.classes)}))"
    yield f"(sensitivity {enc.LEVEL})"
    yield f"(sensitivityorder ({enc.LEVEL}))"
    yield f"(user {enc.USER})"
    yield f"(role {enc.ROLE})"
    yield f"(userrole {enc.USER} {enc.ROLE})"
    yield f"(userlevel {enc.USER} ({enc.LEVEL}))"
    yield f"(userrange {enc.USER} (({enc.LEVEL}) ({enc.LEVEL})))"


def _types(policy: Policy, tables: Tables) -> Iterator[str]:
    system = [enc.sid_type(sid) for sid in tables.initial_sids]
    needed = {"xenboot", "xen", "dom0", "domxen", "unlabeled", "security", "irq", "device", "domU"}
    missing = sorted(needed - set(tables.initial_sids))
    if missing:
        raise BadInput(
            "target.unknown-sid",
            f"{tables.target} has no initial SID {', '.join(missing)}",
            "shype does not support this release",
        )
    helpers = (enc.SELF_TYPE, enc.CHANNEL_TYPE) if policy.guests else ()
    for type_ in (*system, *helpers):
        yield f"(type {type_})(roletype {enc.ROLE} {type_})"
    for label in policy.guests:
        type_ = enc.type_of(label.name)
        yield f"(type {type_})(roletype {enc.ROLE} {type_})"
    for sid in tables.initial_sids:
        yield f"(sid {sid})"
    yield f"(sidorder ({' '.join(tables.initial_sids)}))"
    levels = f"(({enc.LEVEL}) ({enc.LEVEL}))"
    for sid, type_ in zip(tables.initial_sids, system, strict=True):
        yield f"(sidcontext {sid} ({enc.USER} {enc.ROLE} {type_} {levels}))"


def _membership(attributes: dict[str, list[str]]) -> Iterator[str]:
    for name, members in attributes.items():
        if members:
            yield f"(typeattribute {name})"
            yield f"(typeattributeset {name} ({' '.join(members)}))"


def _section(
    title: str, group: Iterable[Allow], tables: Tables, idle: Container[str]
) -> list[str]:
    """Rules with their reasons; none for ``idle`` names, which stand for no type at all."""
    lines: list[str] = []
    for rule in rules.applicable(group, tables):
        if rule.source in idle or rule.target in idle:
            continue
        reason = f"; {rule.reason}"
        if not lines or lines[-2:-1] != [reason]:
            lines.append(reason)
        lines.append(str(rule))
    return [f"; -- {title}", *lines] if lines else []


def _transitions(policy: Policy) -> Iterator[str]:
    """A VM is self_t to itself; dom0's channels to VMs have a type of their own."""
    for label in policy.guests:
        type_ = enc.type_of(label.name)
        yield f"(typetransition {type_} {type_} domain {enc.SELF_TYPE})"
    if policy.guests:
        yield f"(typetransition {enc.DOM0_TYPE} {enc.ALL_LABELS} event {enc.CHANNEL_TYPE})"


def _windows(policy: Policy, tables: Tables) -> Iterator[str]:
    """`domain create` for one label at a time, and never while a conflicting VM runs."""
    names = enc.booleans(policy, "")
    yield "; -- Launch windows and the Chinese Wall"
    for name in (names.enable, *names.bits, *names.running.values()):
        yield f"(boolean {name} false)"
    may_run = {label.name for label in enc.managed(policy)}
    for index, label in enumerate(policy.guests):
        if label.name not in may_run:
            continue
        rule = Allow(
            enc.DOM0_TYPE, enc.type_of(label.name), "domain", ("create",),
            "dom0 starts a VM of this label inside its launch window",
        )
        for checked in rules.applicable((rule,), tables):
            yield f"(booleanif {enc.window(policy, label, index)} (true {checked}))"
