"""Pause, go on, reboot: what an administrator does to a VM that runs, and that is mediated."""

from __future__ import annotations

from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.attestation import gate as attested
from shype.host.audit.event import Event, Result
from shype.host.ended import await_end, is_over
from shype.host.hypervisor import Domain
from shype.host.kept import Kept
from shype.host.launch import catch_up
from shype.host.revoked import require_not
from shype.host.stop import find


@dataclass(frozen=True, slots=True)
class Rebooted:
    """``domid`` is the new one; None if ``decision`` refuses the start."""

    vm: str
    domid: int | None
    decision: Decision | None


def pause(agent: Agent, vm: str, *, lock_timeout: float = 30) -> Domain:
    """Stop a VM's processors. It keeps its memory, its label and its place in the wall."""
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        domain = find(agent, vm)
        _record(agent, "vm.pause", domain)
        agent.hypervisor.pause(domain.domid)
    return domain


def unpause(agent: Agent, vm: str, *, lock_timeout: float = 30) -> Domain | Decision:
    """Let a paused VM go on, or the refusal of an attested one where the host is not trusted.

    One that is half made cannot be meant: it is cleaned up first.  Raises BadInput
    (``vm.revoked``) for one that an update has paused, ...
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        domain = find(agent, vm)
        require_not(agent.state, domain)
        label = agent.manifest.label_of_context(domain.context)
        refused = None if label is None else attested.refusal(agent, label, "go on")
        if refused is not None:
            _record(agent, "vm.unpause", domain, refused)
            return refused
        _record(agent, "vm.unpause", domain)
        agent.hypervisor.unpause(domain.domid)
    return domain


def reboot(
    agent: Agent, vm: str, *, force: bool, timeout: float, lock_timeout: float = 30,
) -> Rebooted:
    """Ask ``vm`` to reboot, or with ``force`` destroy it; and start it again.

    The start is decided anew.  A VM whose start was refused or put off is tried again.

    Raises BadInput (``vm.unknown``, ...), Unavailable (``reboot.timeout``, ``reboot.ended``).
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        waiting = _waiting(agent, vm)
        if waiting is not None:
            return _now(agent, waiting)
        domain = find(agent, vm)
        _record(agent, "vm.reboot", domain)
        kept = agent.kept.get(domain.uuid)
        if kept is None or kept.domid != domain.domid:
            raise Unavailable(
                "reboot.not-kept", f"{vm} was not started by shype, which has no configuration "
                "of it", f"shype stop {vm}, and shype run its configuration")
        if force:
            kept = agent.kept.change(kept, again=True, refused=None, not_before=0)
            agent.witness.goes(domain.domid)
            agent.hypervisor.destroy(domain.domid)
            return _now(agent, kept)
        agent.witness.goes(domain.domid)
        agent.hypervisor.shutdown(domain.domid, reboot=True)
    # The lock is free while the guest takes its time.
    left = await_end(agent, domain, timeout)
    if left is not None and not is_over(left):
        raise Unavailable(
            "reboot.timeout", f"{vm} (domain {domain.domid}) has not ended after {timeout:g} s",
            f"wait longer (--timeout), or shype reboot {vm} --force")
    with agent.lock.hold(lock_timeout):
        return _came_of(agent, kept, domain.domid)


def _now(agent: Agent, kept: Kept) -> Rebooted:
    agent.kept.change(kept, again=True, refused=None, not_before=0)
    return _came_of(agent, kept, kept.domid)


def _came_of(agent: Agent, kept: Kept, old: int) -> Rebooted:
    followed = {item.vm: item for item in catch_up(agent)[1]}.get(kept.vm)
    now = next((d for d in agent.hypervisor.domains()
                if d.uuid == kept.uuid and d.domid != old and not d.dying), None)
    if now is not None:
        return Rebooted(kept.vm, now.domid, None)
    if followed is not None and followed.decision is not None:
        return Rebooted(kept.vm, None, followed.decision)
    if followed is not None and followed.error is not None:
        raise followed.error
    left = agent.kept.get(kept.uuid)
    why = "its configuration does not ask for it"
    if left is not None:
        why = left.refused or "it has rebooted too often lately, and has to wait"
    raise Unavailable(
        "reboot.ended", f"{kept.vm} has ended and does not run again: {why}",
        f"shype reboot {kept.vm}" if left is not None else "shype run its configuration")


def _waiting(agent: Agent, vm: str) -> Kept | None:
    live = {domain.uuid for domain in agent.hypervisor.domains()}
    owed = (kept for kept in agent.kept.all() if kept.again or kept.refused is not None)
    return next((kept for kept in owed if kept.vm == vm and kept.uuid not in live), None)


def _record(
    agent: Agent, kind: str, domain: Domain, refusal: Decision | None = None
) -> None:
    agent.record(Event(
        kind=kind, result=Result.DONE if refusal is None else Result.REFUSED, vm=domain.name,
        domid=domain.domid, subject=agent.manifest.label_of_context(domain.context),
        decision=refusal, deferrable=refusal is not None,
    ))
