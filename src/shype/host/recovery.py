"""Recovery: from whatever state a killed launch left, to a closed window and a true wall.

Every command that changes state begins with it, the guardian ends with it, and
a failed launch cleans up by it: one path, so that the path is well trodden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.host import vectors
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import Resident, Window, residents, value, wall_values, window
from shype.host.hostcheck import require_policy
from shype.host.hypervisor import Domain
from shype.host.journal import Reservation, boot_id
from shype.host.network import mediation


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found and done. ``window`` is how it stood before, ``found`` who runs afterwards."""

    unfinished: Reservation | None
    window: Window
    destroyed: tuple[Domain, ...]
    changed: tuple[str, ...]
    found: tuple[Resident, ...]

    @property
    def nothing(self) -> bool:
        """There was nothing to recover from."""
        return self.unfinished is None and not self.window.open and not self.changed


def recover(agent: Agent) -> Recovery:
    """Close the window, destroy what an unfinished launch half made, set the wall from who runs.

    Hold the launch lock. Safe to die in: run it again. Raises Unavailable, with
    the window closed wherever the hypervisor still lets it (``journal.corrupt``).
    """
    require_policy(agent)
    before = window(agent)
    # Closing comes first: afterwards no domain of that label can appear any more,
    # so the list of domains below is final.
    found = residents(agent)
    changed = settle(agent, found)
    unfinished = agent.journal.read()
    destroyed: tuple[Domain, ...] = ()
    if unfinished is not None:
        destroyed = half_made(agent, unfinished)
        for domain in destroyed:
            agent.hypervisor.destroy(domain.domid)
        changed += settle(agent, residents(agent))
        left = [d for d in half_made(agent, unfinished) if not d.dying]
        if left:
            raise Unavailable(
                "recover.stuck",
                "the hypervisor would not destroy " + ", ".join(f"domain {d.domid}" for d in left),
                "xl destroy it, then run `shype recover`",
            )
    agent.discard_prepared()
    if unfinished is not None:
        agent.record(Event(
            kind="recover", result=Result.DONE, vm=unfinished.vm, subject=unfinished.label,
            deferrable=True, details={
                "pid": unfinished.pid, "window_was_open": before.open,
                "destroyed": [{"domid": d.domid, "vm": d.name} for d in destroyed]}))
        agent.journal.finish()
    mediation.tidy(agent)
    if changed or unfinished is not None:  # who runs could change until the window was closed
        found = residents(agent)
    return Recovery(unfinished, before, destroyed, tuple(dict.fromkeys(changed)), found)


def settle(agent: Agent, found: Sequence[Resident]) -> tuple[str, ...]:
    """Close the window and set the wall by who runs (``found``), in one commit.

    Returns the names of the booleans that changed.
    """
    wanted = agent.manifest.window_values(None) | wall_values(agent, found) | vectors.bits(agent)
    wrong = tuple(name for name in wanted if value(agent, name) is not wanted[name])
    if wrong:
        # Closing a window, or telling the hypervisor who runs, waits for no record.
        agent.record(Event(
            kind="wall.set", result=Result.DONE, deferrable=True,
            details={"changed": {name: wanted[name] for name in wrong}}))
        agent.hypervisor.set_booleans(wanted)
    return wrong


def half_made(agent: Agent, unfinished: Reservation) -> tuple[Domain, ...]:
    """The domains that appeared since the reservation with its context or its name.

    While its window was open no other label could be created, so these are the
    launch's own, or root's in dom0 who used the window behind shype's back.
    """
    if unfinished.boot != boot_id():
        return ()  # the hypervisor restarted since: the domids in the journal mean nothing
    return tuple(
        domain for domain in agent.hypervisor.domains()
        if domain.domid not in unfinished.before
        and (domain.context == unfinished.context or domain.name == unfinished.vm)
    )
