"""Whether a VM still fits into what the policy lets its label, its coalitions and the host have.

Asked under the launch lock, before anything is done for the VM, of those who run by the
hypervisor's own account: the lock, and then the launch's reservation and its domain, keep two
launches from counting on the same room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.census import DOM0, Resident
from shype.host.hypervisor import VmConfig
from shype.host.ids import HostId
from shype.host.resources.device import Nic
from shype.policy.names import LabelName
from shype.policy.quotas import Amount, Quota, Quotas, show
from shype.policy.source import Span

Amounts = Mapping[Amount, int]


@dataclass(frozen=True, slots=True)
class Holder:
    """A VM that takes part of quotas."""

    vm: str
    label: LabelName | None
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Taken:
    """``whose`` quota it is, and what the ``holders`` take of it."""

    whose: str
    quota: Quota
    holders: tuple[Holder, ...]

    def sum(self, amount: Amount) -> int:
        """How much they hold together."""
        return sum(holder.amounts[amount] for holder in self.holders)

    def over(self) -> Iterator[tuple[Amount, int, int]]:
        """Of what they hold more than they may have: how much, and how much that is."""
        for amount, most in self.quota.most.items():
            held = self.sum(amount)
            if held > most:
                yield amount, held, most


def refusal(
    agent: Agent, vm: VmConfig, label: LabelName, found: Sequence[Resident]
) -> Decision | None:
    """The decision that keeps ``vm`` from starting beside ``found``, or None if it fits.

    Raises Unavailable.
    """
    section = agent.policy.quotas
    if section is None:
        return None
    wanted = _amounts(section, label, vm.vcpus, vm.memory, nics(vm))
    holders = _holders(agent, found)
    for taken in _taken(agent, holders, frozenset([label]), agent.policy.coalitions_of(label)):
        for amount, most in taken.quota.most.items():
            used = taken.sum(amount)
            if wanted[amount] and used + wanted[amount] > most:
                return Decision(
                    False, HostId.QUOTA_EXCEEDED,
                    f"{vm.name} may not start: {taken.whose} may have {_said(amount, most)}; "
                    f"{_held(taken, amount)}, and it would take {show(amount, wanted[amount])}.",
                    (taken.quota.span,))
    return _reserved(agent, section, holders, Holder(vm.name, label, wanted))


def taken(agent: Agent, found: Sequence[Resident]) -> tuple[Taken, ...]:
    """Every quota of the policy, and who takes what of it."""
    section = agent.policy.quotas
    if section is None:
        return ()
    return tuple(_taken(agent, _holders(agent, found), frozenset(section.labels),
                        frozenset(section.coalitions)))


def nics(vm: VmConfig) -> int:
    """How many network interfaces it has."""
    return sum(isinstance(device, Nic) for device in vm.devices.all)


def _holders(agent: Agent, found: Sequence[Resident]) -> tuple[Holder, ...]:
    """What every guest takes: the most that it can have, and never less than it has."""
    holders = []
    for resident in found:
        domain = resident.domain
        if domain.domid == DOM0:
            continue
        kept = agent.kept.get(domain.uuid) if domain.uuid else None
        known = kept is not None and kept.domid == domain.domid and kept.current
        vcpus, memory, cards = (
            (kept.vcpus, kept.memory, kept.nics) if kept is not None and known else (0, 0, 0))
        holders.append(Holder(domain.name, resident.label, _amounts(
            agent.policy.quotas, resident.label, max(vcpus, domain.vcpus),
            max(memory, domain.memory), cards)))
    return tuple(holders)


def _taken(
    agent: Agent, holders: Sequence[Holder], labels: frozenset[LabelName],
    coalitions: frozenset[str],
) -> Iterator[Taken]:
    """The quotas of these labels and coalitions, and the host's."""
    section = agent.policy.quotas
    if section is None:
        return
    for label, quota in section.labels.items():
        if label in labels:
            yield Taken(f"label {label}", quota, tuple(
                one for one in holders if one.label == label))
    for coalition, quota in section.coalitions.items():
        if coalition in coalitions:
            yield Taken(f"coalition {coalition}", quota, tuple(
                one for one in holders if coalition in _shares(agent, one.label)))
    if section.host is not None:
        yield Taken("the host", section.host, tuple(holders))


def _reserved(
    agent: Agent, section: Quotas, holders: Sequence[Holder], new: Holder
) -> Decision | None:
    """Whether, with ``new``, what is reserved for others still fits on the host."""
    if section.host is None:
        return None
    after = (*holders, new)
    for amount, most in section.host.most.items():
        used = sum(one.amounts[amount] for one in after)
        left = dict(_left(agent, section, after, amount))
        if new.amounts[amount] and left and used + sum(n for n, _ in left.values()) > most:
            kept = ", ".join(f"{show(amount, n)} for {whose}" for whose, (n, _) in left.items())
            return Decision(
                False, HostId.QUOTA_RESERVED,
                f"{new.vm} may not start: the host may give {_said(amount, most)}, of which "
                f"{show(amount, used - new.amounts[amount])} are held and reserved are {kept}; it "
                f"would take {show(amount, new.amounts[amount])}.",
                (section.host.span, *(span for _, span in left.values())))
    return None


def _left(
    agent: Agent, section: Quotas, holders: Sequence[Holder], amount: Amount
) -> Iterator[tuple[str, tuple[int, Span]]]:
    """What is reserved and not taken; what a label keeps counts for its coalitions as well."""
    within: dict[LabelName, int] = {}
    for label, quota in section.labels.items():
        unmet = quota.reserved.get(amount, 0) - sum(
            one.amounts[amount] for one in holders if one.label == label)
        if unmet > 0:
            within[label] = unmet
            yield f"label {label}", (unmet, quota.span)
    for coalition, quota in section.coalitions.items():
        unmet = quota.reserved.get(amount, 0) - sum(
            one.amounts[amount] for one in holders if coalition in _shares(agent, one.label))
        unmet -= sum(n for label, n in within.items() if coalition in _shares(agent, label))
        if unmet > 0:
            yield f"coalition {coalition}", (unmet, quota.span)


def _amounts(
    section: Quotas | None, label: LabelName | None, vcpus: int, memory: int, cards: int
) -> Amounts:
    rate = section.each(label).bandwidth if section is not None and label is not None else None
    return {Amount.VMS: 1, Amount.VCPUS: vcpus, Amount.MEMORY: memory,
            Amount.BANDWIDTH: (rate or 0) * cards}


def _shares(agent: Agent, label: LabelName | None) -> frozenset[str]:
    if label is None or label not in agent.policy.labels:
        return frozenset()
    return frozenset(agent.policy.coalitions_of(label))


def _said(amount: Amount, number: int) -> str:
    of = f" of {amount}" if amount in (Amount.MEMORY, Amount.BANDWIDTH) else ""
    return f"{show(amount, number)}{of}"


def _held(taken: Taken, amount: Amount) -> str:
    held = [one for one in taken.holders if one.amounts[amount]]
    if not held:
        return "nobody holds any"
    names = ", ".join(f"{one.vm} ({show(amount, one.amounts[amount])})" for one in held[:8])
    more = f" and {len(held) - 8} more" if len(held) > 8 else ""
    return f"{names}{more} hold{'s' if len(held) == 1 else ''} {show(amount, taken.sum(amount))}"
