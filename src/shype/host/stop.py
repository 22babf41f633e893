"""Stop a VM, and release the wall only when it is really gone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0
from shype.host.hypervisor import Domain
from shype.host.recovery import recover

_POLL = 0.1  # seconds between two looks at the hypervisor


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
        domain = _find(agent, vm)
        # Stopping takes away: it is recorded first, and waits for no record.
        _record(agent, domain, Result.PERMITTED, {"force": force, "timeout": timeout})
        if timeout > 0 and not domain.dying:
            agent.hypervisor.shutdown(domain.domid)
    # The lock is free while the guest takes its time; domids are not reused meanwhile.
    gone = _await_end(agent, domain, timeout)
    destroyed = False
    if not gone and force:
        agent.hypervisor.destroy(domain.domid)
        destroyed = True
        gone = _await_end(agent, domain, max(timeout, 10))
    with agent.lock.hold(lock_timeout):
        released = recover(agent).changed
    if not gone:
        _record(agent, domain, Result.FAILED, {"timeout": timeout}, "stop.timeout")
        zombie = any(d.domid == domain.domid and d.dying for d in agent.hypervisor.domains())
        raise Unavailable(
            "stop.timeout",
            f"{domain.name} (domain {domain.domid}) is "
            + ("dying, but not gone: something still maps its memory" if zombie
               else f"still there after {timeout:g} s"),
            "look for backends of it in dom0" if zombie
            else f"wait longer (--timeout), or shype stop {vm} --force",
        )
    _record(agent, domain, Result.DONE, {"destroyed": destroyed, "released": list(released)})
    return Stopped(domain, destroyed, released)


def _record(
    agent: Agent, domain: Domain, result: Result, details: dict[str, object],
    error: str | None = None,
) -> None:
    agent.record(Event(
        kind="stop", result=result, vm=domain.name, domid=domain.domid, details=details,
        subject=agent.manifest.label_of_context(domain.context), error=error, deferrable=True))


def _find(agent: Agent, vm: str) -> Domain:
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


def _await_end(agent: Agent, domain: Domain, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while any(d.domid == domain.domid for d in agent.hypervisor.domains()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True
