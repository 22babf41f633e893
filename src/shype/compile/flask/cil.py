"""From a policy to CIL, the input language of secilc. Same policy and tables, same text."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from shype.base.errors import BadInput
from shype.compile.flask import constraining, devices, levels, loading, objects, rules, trusting
from shype.compile.flask import encoding as enc
from shype.compile.flask.devices import Devices
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.rules import Allow
from shype.compile.flask.tables import Tables
from shype.compile.flask.trusting import Trusted
from shype.decision.security_server import SecurityServer
from shype.policy.manifest import BOOT_MANAGER
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy
from shype.policy.names import CoalitionName

#: Types and attributes share 16 bits in the hypervisor's rule table (avtab keys).
MAX_TYPES = 65_000

#: The mechanisms that the hypervisor mediates between VMs.
MECHANISMS = (Mechanism.EVENT, Mechanism.GRANT, Mechanism.ARGO)


def generate(policy: Policy, tables: Tables) -> str:
    """The whole policy in CIL, without the digest boolean.

    Guards do not expire in it: see `shype.compile.flask.build.build`.

    Raises `BadInput`: ``target.unknown-permission``, ``target.unknown-sid``,
    ``compile.too-many-labels``.
    """
    if len(policy.labels) + len(policy.coalitions) > MAX_TYPES:
        raise _too_many(
            f"{len(policy.labels)} labels and {len(policy.coalitions)} coalitions are"
        )
    server = SecurityServer(policy)
    tables = objects.with_class(policy, tables)
    trusted = trusting.rules_of(policy, server)
    hardware = devices.devices(policy, server)
    managed = objects.rules_of(policy, server)
    attributes = _attributes(policy, trusted) | hardware.attributes | managed.attributes
    if len(attributes) + len(policy.labels) + len(policy.retired) + len(hardware.types) > MAX_TYPES:
        raise _too_many(f"{len(policy.labels)} labels and {len(attributes)} sets of them are")
    idle = {name for name, members in attributes.items() if not members}
    idle |= {enc.SELF_TYPE} if not attributes[enc.ALL_LABELS] else set()
    idle |= {enc.CHANNEL_TYPE} if not attributes[enc.MANAGED] else set()
    lines = [
        f"; shype policy {policy.name} {policy.version} for {tables.target}",
        *_head(policy, tables),
        *_types(policy, tables, trusted, hardware),
        *_membership(attributes),
        *_section("The hypervisor and dom0", rules.BOOT, tables, idle),
        *_section("The reference monitor", _monitor(policy), tables, idle),
        *_section("VMs on themselves", rules.VM, tables, idle),
        *_section("Cleanup, never refused", [
            *rules.CLEANUP,
            *rules.on(enc.ENDABLE if policy.host.manager else enc.ALL_LABELS, rules.ENDING),
        ], tables, idle),
        *_section("dom0 and the VMs it may run: building them",
                  rules.on(_buildable(attributes), rules.BUILD), tables, idle),
        *_section("dom0 and the VMs it may run: serving them", rules.SERVE, tables, idle),
    ]
    for coalition in policy.coalitions:
        group = [
            rule for mechanism in MECHANISMS
            for rule in rules.sharing(_users(attributes, coalition, mechanism), mechanism)
            if mechanism in policy.coalitions[coalition].mechanisms
        ]
        lines += _section(f"Coalition {coalition}", group, tables, idle)
    lines += _section("Trusted labels", trusted.rules, tables, idle)
    lines += _section("Physical resources", hardware.rules, tables, idle)
    lines += _section("Object managers", managed.rules, tables, idle)
    lines += hardware.contexts
    lines += constraining.constraints(policy, attributes)
    lines += _transitions(policy)
    lines += trusted.transitions
    lines += _windows(policy, tables)
    lines += loading.lines(policy, tables)
    return "\n".join(lines) + "\n"


def _too_many(what: str) -> BadInput:
    return BadInput(
        "compile.too-many-labels",
        f"{what} more than the {MAX_TYPES} types that the hypervisor can tell apart",
        "split the policy: a host needs only the labels of the VMs that it may run",
    )


def _attributes(policy: Policy, trusted: Trusted) -> dict[str, list[str]]:
    """Members of all attributes; secilc refuses empty ones, so they are left out later."""
    sets = {
        enc.ALL_LABELS: [*enc.carried(policy)],
        enc.MANAGED: [enc.type_of(label.name) for label in enc.managed(policy)],
    }
    if any(label.locked for label in enc.managed(policy)):
        sets[enc.UNLOCKED] = [
            enc.type_of(label.name) for label in enc.managed(policy) if not label.locked
        ]
    if policy.host.manager is not None:
        own = enc.type_of(policy.host.manager)
        sets[enc.ENDABLE] = [type_ for type_ in enc.carried(policy) if type_ != own]
    sets |= {enc.coalition_attribute(coalition): [] for coalition in policy.coalitions}
    on: dict[str, list[str]] = {}
    for label in policy.guests:
        if levels.trusted(policy, label):
            continue
        for coalition in sorted(label.coalitions):
            sets[enc.coalition_attribute(coalition)].append(enc.type_of(label.name))
            for mechanism in MECHANISMS:
                if mechanism in label.mechanisms:
                    name = enc.mechanism_attribute(coalition, mechanism)
                    on.setdefault(name, []).append(enc.type_of(label.name))
    for coalition, meaning in policy.coalitions.items():
        for mechanism in MECHANISMS:
            name = enc.mechanism_attribute(coalition, mechanism)
            members = on.get(name, [])
            if mechanism in meaning.mechanisms and members != sets[
                enc.coalition_attribute(coalition)
            ]:
                sets[name] = members
    sets |= trusted.attributes
    if policy.guests and (policy.levels or policy.integrity):
        sets[enc.EXEMPT] = [
            enc.DOM0_TYPE, enc.SELF_TYPE, enc.CHANNEL_TYPE, *trusted.channels,
            *(enc.type_of(lb.name) for lb in policy.guests if levels.trusted(policy, lb)),
        ]
    return sets


def _monitor(policy: Policy) -> tuple[Allow, ...]:
    subject = enc.monitor(policy)
    return rules.monitor(subject) if policy.host.manager is None else rules.manager(subject)


def _buildable(attributes: Mapping[str, list[str]]) -> str:
    """The attribute of the labels in whose VMs dom0 may always do what building takes."""
    return enc.UNLOCKED if enc.UNLOCKED in attributes else enc.MANAGED


def _users(
    attributes: Mapping[str, list[str]], coalition: CoalitionName, mechanism: Mechanism
) -> str:
    """The attribute of a coalition's labels that have ``mechanism`` on."""
    some = enc.mechanism_attribute(coalition, mechanism)
    return some if some in attributes else enc.coalition_attribute(coalition)


def _head(policy: Policy, tables: Tables) -> Iterator[str]:
    yield "(handleunknown deny)"
    yield "(mls true)"
    for name, permissions in tables.classes.items():
        yield f"(class {name} ({' '.join(permissions)}))"
    yield f"(classorder ({' '.join(tables.classes)}))"
    sensitivities = [f"s{i}" for i in range(levels.sensitivities(policy))]
    categories = [f"c{i}" for i in range(levels.categories(policy))]
    for name in sensitivities:
        yield f"(sensitivity {name})"
    yield f"(sensitivityorder ({' '.join(sensitivities)}))"
    if categories:
        for name in categories:
            yield f"(category {name})"
        yield f"(categoryorder ({' '.join(categories)}))"
        for name in sensitivities:
            yield f"(sensitivitycategory {name} ({' '.join(categories)}))"
    yield f"(user {enc.USER})"
    yield f"(role {enc.ROLE})"
    yield f"(userrole {enc.USER} {enc.ROLE})"
    yield f"(userlevel {enc.USER} {MlsLevel(0).cil})"
    yield f"(userrange {enc.USER} {levels.whole(policy).cil})"


def _types(
    policy: Policy, tables: Tables, trusted: Trusted, hardware: Devices
) -> Iterator[str]:
    system = [enc.sid_type(sid) for sid in tables.initial_sids]
    needed = {
        "xenboot", "xen", "dom0", "domxen", "unlabeled", "security", "irq", "device", "ioport",
        "iomem", "domU",
    }
    missing = sorted(needed - set(tables.initial_sids))
    if missing:
        raise BadInput(
            "target.unknown-sid",
            f"{tables.target} has no initial SID {', '.join(missing)}",
            "shype does not support this release",
        )
    carried = enc.carried(policy)
    helpers = (enc.SELF_TYPE, enc.CHANNEL_TYPE, *trusted.channels) if carried else ()
    for type_ in (*system, *helpers, *carried, *hardware.types):
        yield f"(type {type_})(roletype {enc.ROLE} {type_})"
    for old, new in enc.aliases(policy).items():
        yield f"(typealias {old})(typealiasactual {old} {new})"
    for sid in tables.initial_sids:
        yield f"(sid {sid})"
    yield f"(sidorder ({' '.join(tables.initial_sids)}))"
    lowest = MlsRange(MlsLevel(0), MlsLevel(0))
    for sid, type_ in zip(tables.initial_sids, system, strict=True):
        range_ = levels.whole(policy) if type_ == enc.DOM0_TYPE else lowest
        yield f"(sidcontext {sid} ({enc.USER} {enc.ROLE} {type_} {range_.cil}))"


def _membership(attributes: Mapping[str, list[str]]) -> Iterator[str]:
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
    carried = enc.carried(policy)
    for type_ in carried:
        yield f"(typetransition {type_} {type_} domain {enc.SELF_TYPE})"
    if carried:
        yield f"(typetransition {enc.DOM0_TYPE} {enc.ALL_LABELS} event {enc.CHANNEL_TYPE})"


def _windows(policy: Policy, tables: Tables) -> Iterator[str]:
    """`domain create` for one label at a time, and never while a conflicting VM runs.

    What builds a VM of a locked label is under the same condition.
    """
    names = enc.booleans(policy, "")
    yield "; -- Launch windows and the Chinese Wall"
    for name in (names.enable, *names.bits, *names.vectors, *names.running.values()):
        yield f"(boolean {name} false)"
    if policy.host.manager is not None:
        yield f"(boolean {BOOT_MANAGER} true)"
    may_run = {label.name for label in enc.managed(policy)}
    for index, label in enumerate(policy.guests):
        if label.name not in may_run:
            continue
        type_ = enc.type_of(label.name)
        given = [Allow(enc.DOM0_TYPE, type_, "domain", ("create",),
                       "dom0 starts a VM of this label inside its launch window")]
        if label.locked:
            given += rules.on(type_, rules.BUILD)
        conditions = enc.windows(policy, label, index)
        if label.name == policy.host.manager:
            given += rules.on(type_, rules.ENDING)
            conditions = [BOOT_MANAGER]
        words = " ".join(map(str, rules.applicable(given, tables)))
        for condition in conditions:
            yield f"(booleanif {condition} (true {words}))"
