"""What an update does to the VMs that run, or that may run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shype.analysis.changes import by_name
from shype.analysis.contexts import Contexts, levels_of
from shype.analysis.ids import Found, PlanId, Weight
from shype.analysis.renames import Renames
from shype.analysis.state import Domain, State
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.decision.wording import listed, printable
from shype.policy.model import Label, Policy
from shype.policy.names import LabelName, VmId
from shype.policy.source import Span

#: dom0's domain id.
DOM0 = 0


@dataclass(frozen=True, slots=True)
class Both:
    """An old and a new policy with everything that is known of them."""

    old: SecurityServer
    new: SecurityServer
    names: Renames
    old_contexts: Contexts
    new_contexts: Contexts

    def after(self, label: LabelName) -> LabelName | None:
        """What a VM labelled ``label`` in OLD carries in NEW: a label, a tombstone, or None.

        None means that the hypervisor has no such type any more.
        """
        found = self.names.labels.new_of.get(label)
        if found is None and label in self.new.policy.retired:
            return label
        return found


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to a VM with a certain label: ``what`` continues "VM x, labelled y, ..."."""

    id: PlanId
    weight: Weight
    what: str
    fix: str
    places: tuple[Span, ...]


def of_label(both: Both, label: LabelName, levels: str | None) -> Iterator[Trouble]:
    """What happens to a VM that carries ``label`` of OLD.

    ``levels`` is the text of the level that it has in the hypervisor; None if
    that is not known (a retired label can have had any).
    """
    old, new = both.old.policy, both.new.policy
    after = both.after(label)
    span = _span(old, label)
    if after is None:
        yield Trouble(
            PlanId.LABEL_LOST, Weight.STOP,
            "loses its label, which the new policy neither has nor retires: it would vanish from "
            "`xl list` and never be labelled again",
            f"list {label} under `retired:` of the new policy, or say what it is now by `was:`",
            (span,),
        )
        return
    if levels is not None and not both.new_contexts.expresses(levels):
        yield Trouble(
            PlanId.LABEL_LOST, Weight.STOP,
            f"loses its label, because the hypervisor knows its level as {levels}, and the new "
            "policy has fewer levels or categories: it would vanish from `xl list` and never be "
            "labelled again",
            "keep the number of levels and categories", (span, *_lattices(new)),
        )
        return
    if after in new.retired:
        yield from _retired(both, label)
        return
    if label in old.retired:
        yield Trouble(
            PlanId.LABEL_REVIVED, Weight.STOP,
            f"carries a retired label, which would come back to life as {after} at whatever level "
            "the VM had",
            f"keep {label} retired until no VM carries it", (span, new.labels[after].span),
        )
        return
    before, now = old.labels[label], new.labels[after]
    yield from _levels(both, before, now, levels)
    if trusted(old, before) != trusted(new, now):
        yield Trouble(
            PlanId.TRUST_CHANGED, Weight.STOP,
            "would " + ("become" if trusted(new, now) else "stop being") + " trusted between "
            "levels or coalitions, while its open event channels keep the type that they have",
            "stop it before the update and start it after", (span, now.span),
        )
    if before.locked and not now.locked:
        yield Trouble(
            PlanId.UNLOCKED, Weight.STOP,
            "runs locked, and would be open to dom0, which could then read its memory and "
            "registers, and save it",
            "stop it before the update and start it after, or keep `locked: true`",
            (span, now.span),
        )
    if both.old.authorize(label).permitted and not both.new.authorize(after).permitted:
        yield Trouble(
            PlanId.NOT_AUTHORIZED, Weight.STOP,
            "is served by dom0, which the new policy does not let run it: its disks, network and "
            "console would stand still",
            f"stop it before the update, or give {new.host.dom0} all coalitions of {after}",
            (now.span, new.labels[new.host.dom0].span),
        )


def _retired(both: Both, label: LabelName) -> Iterator[Trouble]:
    old, new = both.old.policy, both.new.policy
    tomb = new.retired[label]
    if label in old.labels:
        yield Trouble(
            PlanId.LABEL_RETIRED, Weight.REVOKE,
            "goes on running with a retired label: it shares with nobody, dom0 serves it no "
            "more, memory that it has mapped or granted stays mapped, and it cannot start again",
            "stop it when it suits", (_span(old, label), tomb.span),
        )
    held = old.labels[label].members if label in old.labels else old.retired[label].members
    forgotten = (held & new.members) - tomb.members
    if forgotten:
        names = listed(sorted(forgotten))
        yield Trouble(
            PlanId.WALL_FORGOTTEN, Weight.STOP,
            f"holds {names} of a wall, which the tombstone does not say: its competitors could "
            "start beside it",
            f"write `{label}: {{wall: [{', '.join(sorted(forgotten))}]}}` under `retired:`",
            (_span(old, label), tomb.span),
        )


def _levels(both: Both, before: Label, now: Label, levels: str | None) -> Iterator[Trouble]:
    old, new = both.old.policy, both.new.policy
    was, will = _meaning(old, before), _meaning(new, now)
    text = both.old_contexts.levels[before.name] if levels is None else levels
    target = both.new_contexts.levels[now.name]
    places = (before.span, now.span, *_lattices(new))
    if was != will:
        yield Trouble(
            PlanId.LEVEL_CHANGED, Weight.STOP,
            f"would go from {_shown(old, before)} to {_shown(new, now)} with what it knows; the "
            "level of a running VM does not change",
            "stop it before the update and start it after", places,
        )
    elif text != target:
        yield Trouble(
            PlanId.LEVEL_RENUMBERED, Weight.STOP,
            f"would keep the level {text} in the hypervisor, but the new policy means "
            f"{_shown(new, now)} by {target}",
            "stop it before the update and start it after, or add levels and categories at the "
            "end of their lists only", places,
        )


def trusted(policy: Policy, label: Label) -> bool:
    """Whether a label is a guard or keeps several levels apart: it has rules of its own."""
    ranges = (label.level, label.integrity)
    return label.name in policy.guards or any(r is not None and not r.single for r in ranges)


def _meaning(policy: Policy, label: Label) -> object:
    """The levels of a label by name."""
    return by_name(policy.levels, label.level), by_name(policy.integrity, label.integrity)


def _shown(policy: Policy, label: Label) -> str:
    parts = []
    if policy.levels is not None and label.level is not None:
        parts.append(policy.levels.show_range(label.level))
    if policy.integrity is not None and label.integrity is not None:
        parts.append(f"integrity {policy.integrity.show_range(label.integrity)}")
    return ", ".join(parts) or "no level"


def _lattices(policy: Policy) -> tuple[Span, ...]:
    return tuple(lat.span for lat in (policy.levels, policy.integrity) if lat is not None)


def _span(policy: Policy, label: LabelName) -> Span:
    return policy.labels[label].span if label in policy.labels else policy.retired[label].span


# -- with a state, and without ----------------------------------------------------------------


def guests(both: Both, state: State) -> tuple[tuple[Domain, LabelName | None], ...]:
    """The running VMs, each with its label in OLD (None: not a label of it), by domain id."""
    old = both.old.policy
    carried = {*(label.name for label in old.guests), *old.retired}
    found = []
    for domain in sorted(state.domains, key=lambda d: d.domid):
        if domain.domid == DOM0:
            continue
        label = domain.label
        if label is None and domain.context is not None:
            label = both.old_contexts.label_of(domain.context)
        found.append((domain, label if label in carried else None))
    return tuple(found)


def about_running(
    both: Both, running: Sequence[tuple[Domain, LabelName | None]]
) -> Iterator[Found]:
    """What happens to each of the VMs ``running`` by its label, and to the walls between them."""
    for domain, label in running:
        vm = ((domain.domid, domain.vm),)
        if label is None:
            told = printable(domain.label or domain.context or "")
            yield Found(
                PlanId.LABEL_UNKNOWN, Weight.STOP,
                f"{domain.shown} carries {told}, which is no label of the old policy: what would "
                "become of it is not known",
                "stop it, or plan from the policy that the host has loaded", (), vm,
            )
            continue
        for trouble in of_label(both, label, _levels_now(both, domain, label)):
            yield Found(
                trouble.id, trouble.weight, f"{domain.shown}, labelled {label}, {trouble.what}",
                trouble.fix, trouble.places, vm, (label,),
            )
        yield from _assigned(both, domain, label)
    yield from _walls(both, running)


def _levels_now(both: Both, domain: Domain, label: LabelName) -> str | None:
    if domain.context is not None and domain.context.count(":") >= 3:
        return levels_of(domain.context)
    return both.old_contexts.levels.get(label)


def _assigned(both: Both, domain: Domain, label: LabelName) -> Iterator[Found]:
    wanted = both.new.policy.assignments.get(VmId(domain.vm))
    after = both.after(label)
    if wanted is not None and after is not None and wanted.label != after:
        yield Found(
            PlanId.ASSIGNMENT, Weight.NOTE,
            f"{domain.shown} runs as {after}, and the new policy assigns it {wanted.label}: it "
            "keeps what it has until it is started again",
            "start it again", (wanted.span,), ((domain.domid, domain.vm),), (label,),
        )


def _walls(both: Both, running: Sequence[tuple[Domain, LabelName | None]]) -> Iterator[Found]:
    there = [
        Running(domain.domid, domain.vm, after) for domain, label in running
        if label is not None and (after := both.after(label)) is not None
    ]
    for decision in both.new.violations(there):
        sides = tuple((h.domid, h.vm) for h in decision.holders)
        yield Found(
            PlanId.WALL_VIOLATED, Weight.STOP,
            f"running VMs would violate a wall of the new policy: {decision.sentence}",
            "stop all of them but those on one side of the wall", decision.rules, sides,
            tuple(dict.fromkeys(h.label for h in decision.holders)),
        )
    fresh = both.new.policy.members - both.old.policy.members
    for vm in there:
        carried = both.new.policy.labels.get(vm.label)
        held = sorted(fresh & carried.members) if carried is not None else []
        if carried is not None and held:
            yield Found(
                PlanId.WALL_BOOLEAN, Weight.NOTE,
                f"VM {printable(vm.vm)} (domain {vm.domid}) will hold {listed(held)}, "
                "which the hypervisor takes for free right after the update",
                "run `shype recover` after loading the policy, before anything starts",
                (carried.span,), ((vm.domid, vm.vm),),
            )


def about_labels(both: Both) -> Iterator[Found]:
    """Without a state: what would happen to VMs, if any run, grouped by what it is."""
    alike: dict[tuple[PlanId, Weight], list[tuple[LabelName, Trouble]]] = defaultdict(list)
    old = both.old.policy
    for label in (*(guest.name for guest in old.guests), *old.retired):
        for trouble in of_label(both, label, both.old_contexts.levels.get(label)):
            alike[trouble.id, trouble.weight].append((label, trouble))
    for (id, _), troubles in alike.items():
        names = tuple(label for label, _ in troubles)
        first = troubles[0][1]
        yield Found(
            id, Weight.NOTE,
            f"if a VM still carries {'' if len(names) == 1 else 'one of '}{listed(names)}, "
            f"it {first.what}",
            first.fix, first.places, (), names, conditional=True,
        )
