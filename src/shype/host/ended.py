"""What follows when a guest has ended: it is destroyed, its wall released, or it starts again.

The toolstack keeps a VM that has ended and is to come back (`shype.host.drivers.config`); so
it holds its memory and its place in the wall until this has been done, by `shype watch` or at
the beginning of the next command that changes the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0, Resident, residents
from shype.host.hypervisor import CreateFailed, Domain, Ending
from shype.host.kept import Kept, clock
from shype.host.recovery import settle
from shype.host.vtpm import serving

#: A VM that is to start again more often than `MOST` times in `LATELY` seconds has to wait.
MOST = 3
LATELY = 60.0
#: Seconds that a destroyed domain gets to be gone.
_GONE = 10.0
_POLL = 0.1  # seconds between two looks at the hypervisor
#: Seconds between two looks at one that is to end: so much of what it uses is seen by nobody.
_LOOK = 1.0

#: Starts the VM again; returns its domid, or the decision that refuses it.
Start = Callable[[Kept], int | Decision]


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done about one ending.

    ``action``: what its configuration asked for.  ``domid`` is that of the VM that runs
    again; else ``decision`` or ``error`` says why it does not, if it should.
    """

    vm: str
    ending: Ending | None
    action: str
    domid: int | None = None
    decision: Decision | None = None
    error: ShypeError | None = None

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype watch --json``."""
        return {
            "vm": self.vm, "ending": self.ending, "action": self.action, "domid": self.domid,
            "decision": self.decision.to_json() if self.decision else None,
            "error": self.error.to_json() if self.error else None,
        }


def follow_up(agent: Agent, start: Start, found: tuple[Resident, ...]) -> tuple[Followed, ...]:
    """Do what is due for those that were ``found``. Never raises for one VM's sake.

    Hold the launch lock, after a recovery.
    """
    # dom0 cannot end the manager: one that has ended stays, and no window opens any more.
    done = [
        _end(agent, resident) for resident in found
        if is_over(resident.domain) and (
            resident.label is None or resident.label != agent.policy.host.manager)
    ]
    if done:
        found = residents(agent)
        settle(agent, found)
    serving.follow(agent, found)
    live = {resident.domain.uuid: resident.domain for resident in found}
    for kept in sorted(agent.kept.all(), key=lambda kept: kept.not_before):
        there = live.get(kept.uuid)
        if there is not None and not there.dying:
            if kept.again and there.domid == kept.domid and there.ended is None:
                agent.kept.change(kept, again=False)  # it was killed after the start had succeeded
        elif not kept.again or not kept.current:
            if kept.refused is None:
                agent.kept.forget(kept.uuid)
        elif kept.not_before <= clock():
            done.append(_start(agent, kept, start))
    return tuple(item for item in done if item is not None)


def is_over(domain: Domain) -> bool:
    """Whether a guest has ended and waits for what follows (saving is no end)."""
    return (
        domain.ended not in (None, Ending.SUSPEND) and not domain.dying and domain.domid != DOM0
    )


def await_end(
    agent: Agent, domain: Domain, timeout: float, *, gone: bool = False
) -> Domain | None:
    """Wait until it has ended (or is ``gone``); what it is then, None if it is gone.

    Until it has ended the witness looks again and again: the toolstack may destroy it at once.
    """
    started = looked = time.monotonic()
    while True:
        now = next((d for d in agent.hypervisor.domains() if d.domid == domain.domid), None)
        late = time.monotonic() >= started + timeout
        if now is None or late or (is_over(now) and not gone):
            return now
        if not gone and time.monotonic() >= looked + _LOOK:
            agent.witness.goes(domain.domid)
            looked = time.monotonic()
        time.sleep(_POLL)


def next_due(agent: Agent) -> float | None:
    """Seconds until a VM that has to wait may start again."""
    moments = [kept.not_before for kept in agent.kept.all() if kept.again and kept.current]
    return max(0.0, min(moments) - clock()) if moments else None


def _end(agent: Agent, resident: Resident) -> Followed | None:
    domain, ending = resident.domain, resident.domain.ended
    kept = agent.kept.get(domain.uuid)
    if kept is not None and not (kept.current and kept.domid == domain.domid):
        kept = None
    action = "destroy"
    if kept is not None and not kept.stopping:
        action = kept.actions.get(f"on_{ending}", "destroy")
    if action == "preserve":
        return None
    agent.record(Event(
        kind="vm.end", result=Result.DONE, vm=domain.name, domid=domain.domid, deferrable=True,
        subject=resident.label, details={"ending": str(ending), "action": action},
    ))
    if action.startswith("coredump"):
        _dump(agent, domain)
    again = kept is not None and action.endswith(("restart", "restart_rename", "soft_reset"))
    if kept is not None and again:  # before the domain is gone: a kill in between loses no VM
        kept = agent.kept.change(kept, again=True, refused=None, **_pace(kept))
    agent.witness.goes(domain.domid)
    agent.hypervisor.destroy(domain.domid)
    await_end(agent, domain, _GONE, gone=True)  # else it is dying, and keeps its place until then
    if kept is None or not again:
        agent.kept.forget(domain.uuid)
        return Followed(domain.name, ending, action)
    return Followed(domain.name, ending, action) if kept.not_before > clock() else None


def _pace(kept: Kept) -> dict[str, object]:
    """A guest that reboots in a loop must not keep the host busy, nor its place in the wall."""
    now = clock()
    lately = tuple(moment for moment in kept.starts if now - LATELY < moment <= now)
    late = len(lately) >= MOST
    return {"starts": (*lately, now)[-MOST:], "not_before": now + LATELY if late else 0}


def _dump(agent: Agent, domain: Domain) -> None:
    into = agent.state / "dumps" / f"{domain.uuid}-{domain.domid}-{time.time_ns()}"
    result, message = Result.DONE, str(into)
    try:
        agent.hypervisor.dump(domain.domid, into)
    except (ShypeError, OSError) as error:  # as xl does: the VM still is to be ended
        result, message = Result.FAILED, str(error)
    agent.record(Event(
        kind="vm.dump", result=result, vm=domain.name, domid=domain.domid, message=message,
        deferrable=True))


def _start(agent: Agent, kept: Kept, start: Start) -> Followed:
    try:
        if kept.config is None:
            raise BadInput(
                "reboot.no-configuration",
                f"{kept.vm} came from another host without its configuration, and so it cannot "
                "start again by itself", "shype run its configuration file",
            )
        answer = start(kept)
    except ShypeError as error:
        return _failed(agent, kept, error)
    if isinstance(answer, int):
        return Followed(kept.vm, None, "restart", domid=answer)
    agent.kept.change(kept, again=False, refused=str(answer.id))
    return Followed(kept.vm, None, "restart", decision=answer)


def _failed(agent: Agent, kept: Kept, error: ShypeError) -> Followed:
    # What is wrong with the host may be mended: then it is tried again, but not at once.
    later = isinstance(error, Unavailable) and not isinstance(error, CreateFailed)
    now = replace(kept, again=later, refused=None if later else error.id,
                  not_before=clock() + LATELY if later else 0)
    agent.kept.put(now)
    return Followed(kept.vm, None, "restart", error=error)
