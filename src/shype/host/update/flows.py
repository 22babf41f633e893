"""What runs and is connected on a host, and what a new policy makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from shype.analysis.contexts import Contexts, levels_of
from shype.analysis.ids import PlanId, Weight
from shype.analysis.plan import Plan, Verdict, plan
from shype.analysis.running import trusted
from shype.analysis.state import Channel, Domain, State, Use
from shype.base.errors import ShypeError
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.host.agent import Agent
from shype.host.census import DOM0, Resident, residents, wall_values
from shype.host.mapped import Mapped
from shype.host.resources.inventory import inventory
from shype.host.update.sequel import Sequel
from shype.host.vectors import bits
from shype.policy.manifest import Manifest
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName

#: Findings that name a flow which only ends with one of its two domains.
_FLOWS = frozenset({PlanId.CHANNEL, PlanId.CHANNEL_POSSIBLE})


@dataclass(frozen=True, slots=True)
class Look:
    """What an update would do now. ``certain``: the hypervisor told who maps whose pages;
    otherwise everybody who could is taken to. ``sequels``: what else follows for VMs that run."""

    plan: Plan
    certain: bool
    sequels: tuple[Sequel, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether it can be loaded while these VMs run."""
        return self.plan.verdict is not Verdict.IMPOSSIBLE

    @property
    def holders(self) -> dict[int, str]:
        """The VMs (domain id, name) that must not go on: who maps what it may not map, who
        notifies whom it may not; and those of retired labels."""
        found = self.mappers
        for finding in self.plan.found:
            if finding.weight is Weight.REVOKE and finding.id not in {*_FLOWS, PlanId.RESOURCE}:
                found |= {domid: vm for domid, vm in finding.vms if domid != DOM0}
        return found

    @property
    def mappers(self) -> dict[int, str]:
        """Of them, those with whom alone a flow that becomes forbidden can be ended."""
        return {
            domid: vm for finding in self.plan.found
            if finding.weight is Weight.REVOKE and finding.id in _FLOWS
            for domid, vm in finding.vms[:1] if domid != DOM0
        }


def look(old: Agent, new: Agent, *, loaded: Agent) -> Look:
    """Plan the update by what runs; the hypervisor has the policy of ``loaded``, one of the two.

    Hold the launch lock. Raises Unavailable.
    """
    seen = mapped(loaded)
    found = residents(loaded)
    if loaded is new:
        found = tuple(_as_before(old, new, resident) for resident in found)
    guests = [r for r in found if r.domain.domid != DOM0]
    state = State(
        tuple(_domain(resident, _uses(old) if loaded is old else {}) for resident in guests),
        tuple(_channels(old, new, guests, seen)), window_open=False)
    made = plan(
        old.policy, new.policy, contexts(old.manifest), contexts(new.manifest),
        today=date.today(), state=state)
    return Look(made, seen.complete)


def expected(old: Agent, new: Agent) -> dict[int, LabelName]:
    """What each VM that runs under ``old`` is to carry under ``new``, by domain id."""
    renamed = {label.was: label.name for label in new.policy.guests if label.was is not None}
    return {
        r.domain.domid: renamed.get(r.label, r.label) for r in residents(old)
        if r.label is not None and r.domain.domid != DOM0
    }


def mapped(agent: Agent) -> Mapped:
    """Who maps whose pages. The permission to ask is open for just that long."""
    opening = dict.fromkeys(agent.manifest.booleans.flags, True)
    closed = settled(agent)
    agent.hypervisor.set_booleans(closed | opening)
    try:
        return agent.hypervisor.mapped()
    finally:
        agent.hypervisor.set_booleans(closed)


def settled(agent: Agent) -> dict[str, bool]:
    """All booleans as they are between launches: windows closed, the wall by who runs."""
    return (agent.manifest.window_values(None) | wall_values(agent, residents(agent))
            | bits(agent))


def contexts(manifest: Manifest) -> Contexts:
    """How the hypervisor writes the labels of a bundle down."""
    return Contexts(
        {**manifest.retired, **{name: entry.type for name, entry in manifest.labels.items()}},
        {name: levels_of(entry.context) for name, entry in manifest.labels.items()},
        levels_of(manifest.dom0.context),
    )


def _as_before(old: Agent, new: Agent, resident: Resident) -> Resident:
    """``resident`` of the new policy under the label that it had in the old one."""
    label = resident.label
    if label is not None and label in new.policy.labels:
        label = new.policy.labels[label].was or label
    known = label in old.policy.labels or label in old.policy.retired
    return Resident(resident.domain, label if known else None)


def _domain(resident: Resident, uses: dict[int, list[Use]]) -> Domain:
    domain = resident.domain
    return Domain(domain.domid, domain.name, resident.label, domain.context,
                  tuple(uses.get(domain.domid, ())))


def _uses(agent: Agent) -> dict[int, list[Use]]:
    found: dict[int, list[Use]] = {}
    try:
        held = inventory(agent)
    except ShypeError:
        return found  # they are judged one by one after the load
    for one in held:
        kind, _, name = one.what.partition(" ")
        if name and not name.startswith("("):
            access = Access.READ_WRITE if one.holding.write else Access.READ
            found.setdefault(one.holding.backend.domid, []).append(
                Use(ResourceKind(kind), name, access))
    return found


def _channels(
    old: Agent, new: Agent, guests: Sequence[Resident], seen: Mapped
) -> Iterator[Channel]:
    """What goes on after a load. Event channels of guards keep their own types, and nobody
    tells who has one: whoever could is taken to."""
    there = {resident.domain.domid for resident in guests}
    for one in seen.found:
        if one.by in there and one.of in there:
            yield Channel(one.by, one.of,
                          Operation.MAP_WRITE if one.write else Operation.MAP_READ)
    for a in guests:
        for b in guests:
            if a is b or a.label is None or b.label is None:
                continue
            if not seen.complete:
                for operation in (Operation.MAP_READ, Operation.MAP_WRITE):
                    if old.server.permits(a.label, b.label, operation):
                        yield Channel(a.domain.domid, b.domain.domid, operation)
            special = any(
                r.label in old.policy.labels and trusted(old.policy, old.policy.labels[r.label])
                for r in (a, b) if r.label is not None)
            if special and old.server.permits(a.label, b.label, Operation.EVENT_SEND):
                yield Channel(a.domain.domid, b.domain.domid, Operation.EVENT_SEND)
