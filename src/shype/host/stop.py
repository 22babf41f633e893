"""Stop a VM, and release the wall only when it is really gone."""

from __future__ import annotations

from dataclasses import dataclass

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0
from shype.host.ended import await_end, is_over
from shype.host.hypervisor import Domain, Ending
from shype.host.launch import catch_up
from shype.host.recovery import recover
from shype.host.store import audit as store_audit
from shype.host.vtpm import serving
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Stopped:
    """A domain that is gone; ``destroyed`` if it had to be, ``released`` booleans that went off."""

    domain: Domain
    destroyed: bool
    released: tuple[str, ...]


def stop(
    agent: Agent, vm: str, *, force: bool, timeout: float, lock_timeout: float = 30,
) -> Stopped:
    """Shut ``vm`` (a name or a domid) down and wait until the hypervisor no longer lists it.

    With ``force`` it is destroyed when ``timeout`` seconds are over (0: at
    once).  A dying domain still holds its memory, and so its place in the wall.

    Raises BadInput (``vm.unknown``, ``vm.dom0``), Unavailable (``stop.timeout``).
    """
    with agent.lock.hold(lock_timeout):
        recover(agent)
        waiting = _waiting(agent, vm)
        if waiting is not None:
            return waiting
        domain = find(agent, vm)
        # Stopping takes away: it is recorded first, and waits for no record.
        _record(agent, domain, Result.PERMITTED, {"force": force, "timeout": timeout})
        _mark(agent, domain, stopping=True)
        if timeout > 0 and not domain.dying and not is_over(domain):
            agent.witness.goes(domain.domid)  # with `on_poweroff = destroy` nobody sees it later
            agent.hypervisor.shutdown(domain.domid)
    # The lock is free while the guest takes its time; domids are not reused meanwhile.
    left = await_end(agent, domain, timeout)
    destroyed = left is not None and not is_over(left) and force
    if left is not None and (is_over(left) or force):
        agent.witness.goes(domain.domid)
        agent.hypervisor.destroy(domain.domid)
        left = await_end(agent, domain, max(timeout, 10), gone=True)
    with agent.lock.hold(lock_timeout):
        if left is not None:
            _mark(agent, domain, stopping=False)
        released = catch_up(agent)[0].changed
        if left is None:
            store_audit.leave(agent)
    gone = left is None
    if not gone:
        _record(agent, domain, Result.FAILED, {"timeout": timeout}, "stop.timeout")
        raise _late(agent, domain, vm, timeout)
    _record(agent, domain, Result.DONE, {"destroyed": destroyed, "released": list(released)})
    return Stopped(domain, destroyed, released)


def _late(agent: Agent, domain: Domain, vm: str, timeout: float) -> Unavailable:
    now = next((d for d in agent.hypervisor.domains() if d.domid == domain.domid), domain)
    what, fix = f"still there after {timeout:g} s", "wait longer (--timeout), or "
    fix += f"shype stop {vm} --force"
    if now.dying:
        what = "dying, but not gone: something still maps its memory"
        fix = "look for backends of it in dom0"
    elif now.ended is Ending.SUSPEND:
        what = "suspended: it is being saved or migrated, or was when that broke off"
        fix = f"wait for that; if no command does it any more, shype stop {vm} --force"
    return Unavailable("stop.timeout", f"{domain.name} (domain {domain.domid}) is {what}", fix)


def _record(
    agent: Agent, domain: Domain, result: Result, details: dict[str, object],
    error: str | None = None,
) -> None:
    agent.record(Event(
        kind="stop", result=result, vm=domain.name, domid=domain.domid, details=details,
        subject=agent.manifest.label_of_context(domain.context), error=error, deferrable=True))


def _mark(agent: Agent, domain: Domain, *, stopping: bool) -> None:
    """Whatever ends it while it is being stopped, it is not to come back."""
    kept = agent.kept.get(domain.uuid)
    if kept is not None and kept.domid == domain.domid:
        agent.kept.change(kept, stopping=stopping)


def _waiting(agent: Agent, vm: str) -> Stopped | None:
    """A VM that has ended and was to start again later: it is not to, now."""
    live = {domain.uuid for domain in agent.hypervisor.domains()}
    for kept in agent.kept.all():
        if kept.vm == vm and kept.uuid not in live:
            agent.kept.forget(kept.uuid)
            return Stopped(Domain(kept.domid, vm, "", paused=False, dying=False), False, ())
    return None


def find(agent: Agent, vm: str) -> Domain:
    """The domain ``vm``, a name or a domid. Raises BadInput (``vm.unknown``, ``vm.dom0``, ...)."""
    domains = agent.hypervisor.domains()
    found = [d for d in domains if d.name == vm]
    if not found and vm.isascii() and vm.isdigit():
        found = [d for d in domains if d.domid == int(vm)]
    if not found:
        known = ", ".join(f"{d.name} ({d.domid})" for d in domains if d.domid != DOM0)
        raise BadInput("vm.unknown", f"no VM {vm!r} runs", f"these run: {known or 'none'}")
    if any(d.domid == DOM0 for d in found):
        raise BadInput("vm.dom0", "dom0 is the host itself", "shut the machine down instead")
    if len(found) > 1:
        ids = ", ".join(str(d.domid) for d in found)
        raise BadInput("vm.ambiguous", f"several domains are named {vm}", f"give one of: {ids}")
    return found[0]


class Locked(ShypeError):
    """The policy keeps dom0 from what was asked for; nothing has been tried."""

    exit_code = 1


def find_whole(agent: Agent, vm: str, kind: str) -> tuple[Domain, LabelName]:
    """The domain ``vm`` and its label, if all of it can go elsewhere: into a file, to a host.

    Hold the lock, after `catch_up`; a refusal is recorded as an event of ``kind``.  Raises as
    `find`, Unavailable (``vm.over``), and `Locked` (``label.locked``, ``vtpm.stays``).
    """
    domain = find(agent, vm)
    label = agent.manifest.label_of_context(domain.context)
    if label is None or domain.ended or domain.dying:
        raise Unavailable(
            "vm.over", f"{vm} has no label of the policy, or has ended already",
            "look at `shype ps`")
    known = agent.policy.labels.get(label)
    if known is not None and known.locked:
        raise _refused(agent, kind, domain, label, Locked(
            "label.locked",
            f"{domain.name} carries {label}, which is locked ({known.span}): dom0 cannot read its "
            "memory, so it can neither be saved nor migrated, and goes on here",
            "stop it, and start it where it is to run"))
    if serving.given(agent, domain):  # by another policy perhaps, whose label had one
        raise _refused(agent, kind, domain, label, Locked(
            "vtpm.stays",
            f"{domain.name} has a TPM: what is in it stays on this host, so the VM can neither be "
            "saved nor migrated, and goes on here",
            "stop it, and start it again"))
    return domain, label


def _refused(agent: Agent, kind: str, domain: Domain, label: LabelName, error: Locked) -> Locked:
    """The refusal, when it is on record."""
    agent.record(Event(
        kind=kind, result=Result.REFUSED, vm=domain.name, domid=domain.domid, subject=label,
        error=error.id, message=error.message, deferrable=True))
    return error
