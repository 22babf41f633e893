"""Holds every VM to what ``each`` of its label's quota says, and again if somebody let it go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0, residents
from shype.host.governor import WEIGHT, Share
from shype.host.hypervisor import Domain
from shype.policy.names import LabelName
from shype.policy.quotas import Each


@dataclass(frozen=True, slots=True)
class Loose:
    """What a VM is held to (``now``) and should be (``wanted``), in words."""

    domain: Domain
    label: LabelName
    what: str
    now: str
    wanted: str


def concerned(agent: Agent) -> bool:
    """Whether the policy holds any VM to anything."""
    section = agent.policy.quotas
    return section is not None and any(
        quota.each != Each() for quota in section.labels.values())


def apply(agent: Agent, domid: int, label: LabelName) -> None:
    """Hold a new domain to its share, before it runs. Raises Unavailable (``quota.governor``)."""
    each = _each(agent, label)
    if each == Each():
        return
    governor = agent.hypervisor.governor()
    if each.cpu is not None or each.weight is not None:
        governor.set_share(domid, _share(each))
    if each.bandwidth is not None:
        for vif in agent.hypervisor.switch().vifs():
            if vif.domid == domid:
                governor.set_rate(vif.name, each.bandwidth)


def loose(agent: Agent) -> tuple[Loose, ...]:
    """What does not hold. Raises Unavailable."""
    return tuple(_loose(agent)) if concerned(agent) else ()


def keep(agent: Agent) -> tuple[Loose, ...]:
    """Hold them again, on record; what had to be. Hold the launch lock. Raises Unavailable."""
    found = loose(agent)
    for one in found:
        apply(agent, one.domain.domid, one.label)
        agent.record(Event(
            kind="quota.reapplied", result=Result.DONE, vm=one.domain.name,
            domid=one.domain.domid, subject=one.label, deferrable=True,
            details={"what": one.what, "was": one.now, "is": one.wanted}))
    return found


def _loose(agent: Agent) -> Iterator[Loose]:
    governor = agent.hypervisor.governor()
    vifs = agent.hypervisor.switch().vifs()
    for resident in residents(agent):
        domain, label = resident.domain, resident.label
        if domain.domid == DOM0 or label is None or domain.dying or domain.ended:
            continue
        each = _each(agent, label)
        if each.cpu is not None or each.weight is not None:
            wanted, now = _share(each), governor.share(domain.domid)
            if now != wanted:
                yield Loose(domain, label, "processors", _words(now), _words(wanted))
        if each.bandwidth is not None:
            for vif in vifs:
                if vif.domid != domain.domid:
                    continue
                rates = governor.rates(vif.name)
                if any(_far(rate, each.bandwidth) for rate in rates):
                    yield Loose(domain, label, vif.name, f"{rates[0]} and {rates[1]} bit/s",
                                f"{each.bandwidth} bit/s both ways")


def _far(rate: int, wanted: int) -> bool:
    """tc shows large rates rounded down to three digits or more."""
    return abs(rate - wanted) * 100 > wanted


def _each(agent: Agent, label: LabelName) -> Each:
    section = agent.policy.quotas
    return Each() if section is None else section.each(label)


def _share(each: Each) -> Share:
    return Share(WEIGHT if each.weight is None else each.weight, each.cpu or 0)


def _words(share: Share | None) -> str:
    if share is None:
        return "unknown"
    return f"weight {share.weight}, {f'{share.cpu} %' if share.cpu else 'no cap'}"
