"""What a new policy forbids between VMs that run.

A reload changes what is checked from then on.  The hypervisor checks event
channels (each send), copies and Argo (each message) at every use; a page that
is mapped was checked when it was mapped, and stays so until one of the two
domains is gone.  A trusted label's end of an event channel has a type of its
own, which the channel keeps as well.  Disks and networks are dom0's to detach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from shype.analysis.ids import Found, PlanId, Weight
from shype.analysis.running import DOM0, Both, trusted
from shype.analysis.state import Channel, Domain, State
from shype.decision.operation import Flow, Operation
from shype.decision.wording import listed, pair, printable
from shype.policy.mechanism import Mechanism
from shype.policy.names import LabelName
from shype.policy.source import Span

#: Who does what to whom: labels of OLD.
Act = tuple[LabelName, LabelName, Operation]

_EXCHANGES = tuple(op for op in Operation if op.flow is not Flow.POWER)
_MAPS = frozenset({Operation.MAP_READ, Operation.MAP_WRITE})
_BY_DOM0 = frozenset({Mechanism.DISK, Mechanism.NETWORK, Mechanism.XENSTORE})


def about_channels(
    both: Both, state: State, running: Sequence[tuple[Domain, LabelName | None]]
) -> Iterator[Found]:
    """What is, or where that is not known may be, in use between ``running`` and gets forbidden."""
    known = {domain.domid: (domain, label) for domain, label in running if label is not None}
    if state.channels is None:
        yield from _possible(both, known.values())
        return
    dom0 = Domain(DOM0, "dom0", both.old.policy.host.dom0)
    ends = {DOM0: (dom0, both.old.policy.host.dom0), **known}
    for channel in state.channels:
        if channel.a in ends and channel.b in ends:
            yield from _live(both, channel, ends)


def _live(
    both: Both, channel: Channel, ends: Mapping[int, tuple[Domain, LabelName]]
) -> Iterator[Found]:
    (a, a_label), (b, b_label) = ends[channel.a], ends[channel.b]
    lost = tuple(_forbidden(both, a_label, b_label, channel.what))
    if lost:
        yield Found(
            PlanId.CHANNEL, Weight.REVOKE,
            f"the live channel ({channel.what}) from {a.shown}, labelled {a_label}, to {b.shown}, "
            f"labelled {b_label}, becomes forbidden{_survival(both, lost)}",
            _cure(both, lost), _places(both, a_label, b_label),
            ((a.domid, a.vm), (b.domid, b.vm)), tuple(dict.fromkeys((a_label, b_label))),
        )


def _forbidden(
    both: Both, a: LabelName, b: LabelName, what: Operation | Mechanism
) -> Iterator[Act]:
    """What of a channel NEW forbids; all of it if NEW permits nothing of it."""
    if isinstance(what, Operation):
        acts = [(a, b, what)]
    else:
        acts = [
            (s, o, op) for s, o in ((a, b), (b, a)) for op in _EXCHANGES if op.mechanism is what
        ]
        acts = [act for act in acts if both.old.permits(*act)] or acts
    return (act for act in acts if not _still(both, *act))


def _still(both: Both, subject: LabelName, object: LabelName, operation: Operation) -> bool:
    """Whether NEW permits it between what the two labels have become."""
    dom0, sides = both.old.policy.host.dom0, []
    for label in (subject, object):
        after = both.new.policy.host.dom0 if label == dom0 else both.after(label)
        if after is None:
            return False
        sides.append(after)
    return both.new.permits(sides[0], sides[1], operation)


def _possible(both: Both, known: Iterable[tuple[Domain, LabelName]]) -> Iterator[Found]:
    vms: dict[LabelName, list[Domain]] = defaultdict(list)
    for domain, label in known:
        after = both.after(label)
        # What is lost or retired has a finding of its own.
        if after is not None and after not in both.new.policy.retired:
            vms[label].append(domain)
    labels = list(vms)
    for index, a in enumerate(labels):
        for b in labels[index:]:
            if a == b and len(vms[a]) < 2:
                continue
            lost = tuple(_lost(both, a, b))
            if lost:
                yield _maybe(both, a, b, lost, {d.domid: d for d in (*vms[a], *vms[b])})


def _lost(both: Both, a: LabelName, b: LabelName) -> Iterator[Act]:
    for subject, object in dict.fromkeys(((a, b), (b, a))):
        for op in _EXCHANGES:
            if both.old.permits(subject, object, op) and not _still(both, subject, object, op):
                yield subject, object, op


def _maybe(
    both: Both, a: LabelName, b: LabelName, lost: Sequence[Act], vms: Mapping[int, Domain]
) -> Found:
    names = [domain.shown for domain in vms.values()]
    operations = listed(list(dict.fromkeys(op.value for _, _, op in lost)))
    return Found(
        PlanId.CHANNEL_POSSIBLE, Weight.REVOKE,
        f"between {pair(a, b)} ({listed(names)}) the new policy forbids {operations}, "
        f"and the state does not say whether it is in use{_survival(both, lost)}",
        _cure(both, lost), _places(both, a, b),
        tuple((domain.domid, domain.vm) for domain in vms.values()),
        tuple(dict.fromkeys((a, b))),
    )


def about_resources(
    both: Both, running: Sequence[tuple[Domain, LabelName | None]]
) -> Iterator[Found]:
    """What ``running`` have attached and may not use any more.

    Nothing is taken away by a reload: a device was checked when it was assigned
    (xsm hooks of domctl), a disk or a network when dom0 attached it.

    Raises BadInput ``resource.name`` or ``resource.mixed`` as `SecurityServer.use`.
    """
    for domain, label in running:
        after = None if label is None else both.after(label)
        if label is None or after is None or after in both.new.policy.retired:
            continue
        for use in domain.uses or ():
            decision = both.new.use(after, use.kind, use.name, use.access)
            if not decision.permitted:
                yield Found(
                    PlanId.RESOURCE, Weight.REVOKE,
                    f"{domain.shown} goes on using what becomes forbidden: {decision.sentence}",
                    "detach it, or stop the VM", decision.rules, ((domain.domid, domain.vm),),
                    (label,),
                )
    silent = tuple((d.domid, d.vm) for d, _ in running if d.uses is None)
    if silent and (both.old.policy.resources or both.new.policy.resources):
        yield Found(
            PlanId.NOT_KNOWN, Weight.NOTE,
            f"the state does not say which resources {listed([printable(vm) for _, vm in silent])} "
            "use, so nothing is said about them",
            "add `resources` to the state, an empty list if there are none", (), silent,
        )


def _survives(both: Both, act: Act) -> bool:
    """Whether it goes on after a reload where it is in use."""
    subject, object, operation = act
    if operation in _MAPS:
        return True
    old = both.old.policy
    return operation is Operation.EVENT_SEND and any(
        label in old.labels and trusted(old, old.labels[label]) for label in (subject, object)
    )


def _survival(both: Both, lost: Sequence[Act]) -> str:
    lasting = dict.fromkeys(op.value for s, o, op in lost if _survives(both, (s, o, op)))
    if lasting:
        return f": what uses {listed(list(lasting))} goes on after the load"
    if any(op.mechanism in _BY_DOM0 for _, _, op in lost):
        return ": dom0 has to end it"
    return ": the hypervisor refuses it from the load on"


def _cure(both: Both, lost: Sequence[Act]) -> str:
    if any(_survives(both, act) for act in lost):
        return "stop one of the VMs of each pair, or have them unmap and close before the update"
    if any(op.mechanism in _BY_DOM0 for _, _, op in lost):
        if all(op.mechanism is Mechanism.XENSTORE for _, _, op in lost):
            return "after the update, `shype store repair` closes the directories"
        return "detach the disk or the network of one of them"
    return "tell who uses it; nothing has to be stopped"


def _places(both: Both, *labels: LabelName) -> tuple[Span, ...]:
    """The labels in OLD and what they are in NEW."""
    found: dict[Span, None] = {}
    for name in labels:
        dom0 = name == both.old.policy.host.dom0
        after = both.new.policy.host.dom0 if dom0 else both.after(name)
        for policy, label in ((both.old.policy, name), (both.new.policy, after)):
            if label is not None:
                tomb = policy.retired.get(label)
                found[tomb.span if tomb is not None else policy.labels[label].span] = None
    return tuple(found)
