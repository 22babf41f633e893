"""Taking back what a new policy forbids: devices, and VMs that map what they may not map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from shype.base.errors import ShypeError
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import residents
from shype.host.resources.inventory import Held, inventory
from shype.host.revoked import remember
from shype.host.update.flows import Look
from shype.host.update.journal import Unfinished, UpdateJournal
from shype.policy.model import Revocation


@dataclass(frozen=True, slots=True)
class Revoked:
    """VMs and devices, as people name them; ``left`` still flows."""

    paused: tuple[str, ...]
    destroyed: tuple[str, ...]
    detached: tuple[str, ...]
    left: tuple[str, ...]


def pause(
    agent: Agent, journal: UpdateJournal, record: Unfinished, holders: Mapping[int, str]
) -> Unfinished:
    """Pause ``holders`` (those that are not), recorded before; the new record."""
    fresh = {
        str(r.domain.domid): r.domain.uuid for r in residents(agent)
        if r.domain.domid in holders and not r.domain.paused
        and str(r.domain.domid) not in record.paused
    }
    if fresh:
        record = journal.write(replace(record, paused={**record.paused, **fresh}))
        for domid in fresh:
            agent.hypervisor.pause(int(domid))
    return record


def release(agent: Agent, record: Unfinished) -> None:
    """Let those go on that the update has paused and that are there still."""
    for resident in residents(agent):
        domain = resident.domain
        if record.paused.get(str(domain.domid)) == domain.uuid and domain.paused:
            agent.hypervisor.unpause(domain.domid)


def revoke(agent: Agent, record: Unfinished, now: Look) -> Revoked:
    """Carry out what the policy of ``agent``, which is in force, chose. Safe to die in."""
    chosen = agent.policy.host.revocation
    detached, left = _detach(agent) if chosen is not Revocation.REFUSE else ((), ())
    names = now.holders
    destroyed: list[str] = []
    if chosen is Revocation.DESTROY:
        for domid, vm in names.items():
            _tell(agent, "destroyed", domid, vm)
            agent.witness.goes(domid)
            agent.hypervisor.destroy(domid)
            destroyed.append(vm)
    there = {r.domain.domid: r.domain for r in residents(agent) if not r.domain.dying}
    paused = [vm for domid, vm in names.items() if domid in there and there[domid].paused]
    if chosen is Revocation.PAUSE:
        ref = agent.manifest.policy
        remember(agent.state, {domid: there[domid].uuid for domid in names if domid in there},
                 f"{ref.name} {ref.version}")
    else:
        remember(agent.state, {}, "")
        for domid, vm in names.items():
            _tell(agent, "paused", domid, vm)
    return Revoked(tuple(paused), tuple(destroyed), detached, left)


def flowing(agent: Agent, last: Look) -> tuple[str, ...]:
    """What runs and holds what it may not, after all."""
    running = {r.domain.domid for r in residents(agent)
               if not r.domain.paused and not r.domain.dying}
    return tuple(f"{vm} runs, and maps what it may not map"
                 for domid, vm in last.mappers.items() if domid in running)


def _tell(agent: Agent, what: str, domid: int, vm: str) -> None:
    agent.record(Event(
        kind="policy.revoke", result=Result.DONE, vm=vm, domid=domid, deferrable=True,
        message=f"{what}: it holds what the new policy forbids"))


def _detach(agent: Agent) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take away what VMs may not have any more; what was, and what could not be."""
    done, left = [], []
    for held in _forbidden(agent):
        backend, what = held.holding.backend, f"{held.what} of {held.vm}"
        kind = "network" if backend.kind == "vif" else "disk"
        try:
            agent.hypervisor.detach(backend.domid, kind, backend.number)
        except ShypeError as error:
            left.append(f"{what} ({error.id})")
            continue
        done.append(what)
        agent.record(Event(
            kind=f"{kind}.detach", result=Result.DONE, vm=held.vm, domid=backend.domid,
            subject=held.label, object=f"device:{held.what}", decision=held.decision,
            deferrable=True))
    return tuple(done), tuple(left)


def _forbidden(agent: Agent) -> Iterator[Held]:
    return (h for h in inventory(agent) if h.decision is not None and not h.decision.permitted)
