"""Lock the XenStore of a running host, and record it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.store import audit, lockdown


@dataclass(frozen=True, slots=True)
class Locked:
    """``replaced``: by ``program`` with ``options``; ``repaired`` what was open."""

    replaced: bool
    program: str | None
    options: tuple[str, ...]
    repaired: audit.Repaired


def lock(agent: Agent, program: Path | None = None, *, lock_timeout: float = 30) -> Locked:
    """Have the running C xenstored replaced by a locked one (``program``, or the same).

    Nothing is replaced if it is locked already and no ``program`` is given. What guests opened
    before is closed: a lock keeps lists as they are.

    Raises Unavailable (``host.xenstore-open``, ``host.no-xenstore``, ``store.no-daemon``,
    ``store.live-update``), BadInput (``store.program``).
    """
    with agent.lock.hold(lock_timeout), agent.hypervisor.store() as store:
        before = lockdown.lockdown(store)
        if before.permissions is None:
            lockdown.require_locked(store)  # says why this daemon cannot be locked
        if before.holds and program is None:
            return Locked(False, None, (), audit.settle(agent, store))
        running = lockdown.daemon()
        wanted = running.program if program is None else str(program)
        details = {"program": wanted, "options": list(running.locked())}
        agent.record(Event(kind="store.lock", result=Result.PERMITTED, details=details))
        try:
            lockdown.replace(store, wanted, running.locked())
            lockdown.require_locked(store)
        except Unavailable as error:
            agent.record(Event(
                kind="store.lock", result=Result.FAILED, error=error.id, details=details))
            raise
        return Locked(True, wanted, running.locked(), audit.settle(agent, store))
