"""How the host stands: what enforces, which policy, is the window closed, is the wall right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit.head import Head
from shype.host.census import Resident, Window, held, residents, window
from shype.host.hostcheck import require_policy
from shype.host.journal import Reservation
from shype.host.network import mediation
from shype.host.points import Point, points, store_point, trail_point
from shype.host.store.lockdown import require_locked
from shype.host.update.journal import Unfinished, UpdateJournal
from shype.policy.model import Enforcement
from shype.policy.names import MemberName


@dataclass(frozen=True, slots=True)
class WallState:
    """A member of conflict sets: does a domain hold it, and does the hypervisor know."""

    member: MemberName
    runs: bool
    known: bool

    @property
    def safe(self) -> bool:
        """False only if a conflicting VM could start beside a running one."""
        return self.known or not self.runs


@dataclass(frozen=True, slots=True)
class Status:
    """The host's state. ``problem`` is why it cannot enforce the policy at all, and then the
    window and the wall are unknown.  ``expired`` are guards that run after their last day.
    ``store_problem`` is why guests may talk through XenStore, past the policy; ``network`` what
    is wrong with the filter on dom0's bridges; ``points``: on what else enforcement rests."""

    enforcement: Enforcement
    problem: Unavailable | None
    window: Window | None
    wall: tuple[WallState, ...]
    unknown: tuple[str, ...]
    expired: tuple[str, ...]
    unfinished: Reservation | None
    journal_problem: Unavailable | None
    busy: int | None
    store_problem: Unavailable | None
    trail: Head | None = None
    trail_problem: Unavailable | None = None
    network: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    update: Unfinished | None = None

    @property
    def sound(self) -> bool:
        """Enforcing, our policy, window closed, wall and bridges true, guards valid, nothing
        unfinished, an audit trail that is as it was left and takes records, and no other point
        that the policy demands amiss."""
        return (
            self.able and self.window is not None and not self.window.open
            and all(state.safe for state in self.wall) and not self.unknown
            and not self.expired and not self.network
            and not any(point.wrong for point in self.points)
            and self.unfinished is None and self.journal_problem is None
            and self.trail_problem is None and self.update is None
        )

    @property
    def able(self) -> bool:
        """Whether this host enforces our policy at all."""
        return (self.enforcement is Enforcement.ENFORCING and self.problem is None
                and self.store_problem is None)


def status(agent: Agent) -> Status:
    """Look at everything and change nothing (no lock is taken)."""
    enforcement = agent.hypervisor.enforcement()
    problem: Unavailable | None = None
    now: Window | None = None
    wall: tuple[WallState, ...] = ()
    unknown: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    rests: tuple[Point, ...] = ()
    try:
        require_policy(agent)
    except Unavailable as error:
        problem = error
    else:
        now = window(agent)
        found = residents(agent)
        members = held(agent, found)
        wall = tuple(
            WallState(member, member in members, bool(agent.hypervisor.boolean(boolean)))
            for member, boolean in agent.manifest.booleans.running.items()
        )
        unknown = tuple(
            f"{r.domain.name} (domain {r.domain.domid}, {r.domain.context})"
            for r in found if r.label is None
        )
        expired = tuple(_expired(agent, found))
        network = mediation.faults(agent)
        rests = points(agent, network)
    unfinished, journal_problem = _journal(agent)
    trail, trail_problem = _trail(agent)
    store_problem = _store(agent)
    return Status(
        enforcement, problem, now, wall, unknown, expired, unfinished, journal_problem,
        agent.lock.holder(), store_problem, trail, trail_problem, network,
        (store_point(store_problem), *rests, trail_point(agent, trail, trail_problem)),
        _update(agent),
    )


def _expired(agent: Agent, found: Sequence[Resident]) -> Iterator[str]:
    today = date.today()
    for resident in found:
        guard = agent.policy.guards.get(resident.label) if resident.label else None
        if guard is not None and guard.expired(today):
            domain = resident.domain
            yield f"{domain.name} (domain {domain.domid}, {guard.name}, expired {guard.expires})"


def _trail(agent: Agent) -> tuple[Head | None, Unavailable | None]:
    try:
        return agent.trail.head(), None
    except Unavailable as error:
        return None, error


def _journal(agent: Agent) -> tuple[Reservation | None, Unavailable | None]:
    try:
        return agent.journal.read(), None
    except Unavailable as error:
        return None, error


def _update(agent: Agent) -> Unfinished | None:
    """The update that is at work or was killed; a record that is damaged counts as one."""
    journal = UpdateJournal(agent.state)
    try:
        return journal.read()
    except Unavailable as error:
        return Unfinished(f"unknown [{error.id}]", "unknown", "")


def _store(agent: Agent) -> Unavailable | None:
    try:
        with agent.hypervisor.store() as store:
            require_locked(store)
    except Unavailable as error:
        return error
    return None
