"""What a denial of the hypervisor means in the words of the policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shype.base.errors import BadInput, Unavailable
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.host import vectors
from shype.host.agent import Agent
from shype.host.avc import AvcDenial, parse
from shype.host.census import DOM0, residents, running
from shype.host.ids import HostId
from shype.policy.names import LabelName

#: What a domain tries on another, by Xen's class and permission; None stands for the class's
#: other permissions. The permissions of a grant map come together: the later ones say more.
OPERATIONS: Mapping[str, Mapping[str | None, Operation]] = {
    "event": {None: Operation.EVENT_SEND},
    "grant": {"map_read": Operation.MAP_READ, "map_write": Operation.MAP_WRITE,
              "copy": Operation.COPY_TO, None: Operation.MAP_WRITE},
    "argo": {None: Operation.ARGO_SEND},
    "mmu": {None: Operation.FOREIGN_MAP},
    "domain": {None: Operation.CONTROL}, "domain2": {None: Operation.CONTROL},
    "hvm": {None: Operation.CONTROL}, "shadow": {None: Operation.CONTROL},
}
#: Operations on FLASK itself that the compiled policy gives to nobody.
_LOCKED = frozenset({"setenforce", "load_policy", "setsecparam", "add_ocontext", "del_ocontext"})
_RELABEL = frozenset({"relabelfrom", "relabelto", "relabelself", "transition"})
#: The type that libxl gives to a VM without seclabel: initial SID domU.
UNLABELLED_TYPE = "domU_t"


@dataclass(frozen=True, slots=True)
class Explained:
    """A denial, the labels at both ends (None: no label of the policy), the rule, how often.

    ``decision`` is None where the policy has nothing to say; the line itself
    is always kept. A wall conflict is judged by who runs *now*: the
    hypervisor's lines carry no time.
    """

    denial: AvcDenial
    source: LabelName | None
    target: LabelName | None
    decision: Decision | None
    times: int = 1


def denials(agent: Agent) -> tuple[Explained, ...]:
    """Every denial still in the hypervisor's console ring, oldest first, repetitions counted."""
    guests = _guests(agent)
    result: list[Explained] = []
    for line in agent.hypervisor.denials():
        denial = parse(line)
        if denial is None:
            continue
        if result and result[-1].denial.raw == denial.raw:
            last = result[-1]
            result[-1] = Explained(
                last.denial, last.source, last.target, last.decision, last.times + 1)
        else:
            result.append(explain(agent, denial, guests))
    return tuple(result)


def since(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """The lines of ``after`` that came after ``before``; the ring may have dropped old ones."""
    for kept in range(min(len(before), len(after)), 0, -1):
        if tuple(before[-kept:]) == tuple(after[:kept]):
            return tuple(after[kept:])
    return tuple(after)


def explain_creation(agent: Agent, lines: Iterable[str], context: str) -> Decision | None:
    """The hypervisor's refusal to let dom0 create a domain of ``context``, if ``lines`` has one."""
    guests = _guests(agent)
    for denial in filter(None, map(parse, lines)):
        creation = denial.tclass == "domain" and "create" in denial.permissions
        if creation and denial.target_context == context:
            return explain(agent, denial, guests).decision
    return None


def explain(agent: Agent, denial: AvcDenial, guests: Sequence[Running]) -> Explained:
    """One denial, explained. ``guests`` are those that run now. Never raises."""
    source = _label(agent, denial.source_type)
    if denial.tclass == "event" and "bind" in denial.permissions:
        # Asked of a new channel, which carries the remote domain's type and the opener's level:
        # who opened it is the domain that made the call.
        opener = [domain.label for domain in guests if domain.domid == denial.source]
        source = opener[0] if opener else source
    target = _label(agent, denial.target_type)
    return Explained(denial, source, target, _decide(agent, denial, source, target, guests))


def _decide(
    agent: Agent, denial: AvcDenial, source: LabelName | None, target: LabelName | None,
    guests: Sequence[Running],
) -> Decision | None:
    host = agent.policy.host.span
    wanted = frozenset(denial.permissions)
    if denial.garbled:
        return Decision(False, HostId.GARBLED, "the hypervisor denied something, but its line is "
                        "damaged.")
    if wanted & _RELABEL and denial.tclass in ("domain", "domain2"):
        return Decision(
            False, HostId.LABEL_RELABEL,
            f"{target or denial.target_type} was to be relabelled: no VM ever changes its label.",
            (host,),
        )
    if denial.tclass == "domain" and "create" in wanted:
        return _creation(agent, denial, target, guests)
    if denial.tclass == "security" and wanted & _LOCKED:
        return Decision(
            False, HostId.SECURITY_LOCKED,
            f"{source or denial.source_type} asked for {', '.join(sorted(wanted))}: the policy "
            "lets nobody weaken enforcement while it is in force.",
            (host,),
        )
    operation = operation_of(denial)
    if operation is None or source is None or target is None:
        return None
    if source == target == agent.manifest.dom0.label:
        return None  # dom0 at itself: Xen's affair, not the policy's
    if denial.tclass == "argo" and wanted == {"register_single_source"}:
        source, target = target, source  # the owner of a ring admits who sends to it
    decision = agent.server.decide(source, target, operation)
    if not decision.permitted:
        return decision
    return Decision(
        False, HostId.NOT_GRANTED,
        f"{source} may reach {target} ({decision.id}), but shype's policies never grant "
        f"{denial.tclass} {{ {' '.join(denial.permissions)} }}.",
        decision.rules, decision.shared,
    )


def operation_of(denial: AvcDenial) -> Operation | None:
    """What was tried between two domains; None if it was something else."""
    known = OPERATIONS.get(denial.tclass)
    if known is None:
        return None
    named = [known[permission] for permission in denial.permissions if permission in known]
    return named[-1] if named else known[None]


def _creation(
    agent: Agent, denial: AvcDenial, target: LabelName | None, guests: Sequence[Running]
) -> Decision:
    host = agent.policy.host.span
    if denial.target_type == UNLABELLED_TYPE:
        return Decision(
            False, HostId.CREATE_UNLABELLED,
            "a VM without a label was to start: the hypervisor lets none be created.", (host,),
        )
    if target is None:
        return Decision(
            False, HostId.CREATE_FOREIGN,
            f"a VM with the context {denial.target_context} was to start: it stands for no label "
            "of the policy.",
            (host,),
        )
    try:
        decision = agent.server.launch(target, guests, vectors.in_force(agent))
    except (BadInput, Unavailable):
        decision = None  # beside a domain of unknown label nothing can be said of the wall
    if decision is not None and not decision.permitted:
        return decision
    return Decision(
        False, HostId.CREATE_NO_WINDOW,
        f"a VM labelled {target} was started behind shype's back, outside its launch window: "
        "use `shype run`.",
        (agent.policy.labels[target].span, host),
    )


def _label(agent: Agent, type_: str) -> LabelName | None:
    # By type, not by context: event channels carry the same type under role object_r.
    if type_ == agent.manifest.dom0.type:
        return agent.manifest.dom0.label
    types = {entry.type: name for name, entry in agent.manifest.labels.items()}
    types |= {gone: name for name, gone in agent.manifest.retired.items()}
    return types.get(type_)


def _guests(agent: Agent) -> tuple[Running, ...]:
    return running([r for r in residents(agent) if r.domain.domid != DOM0])
