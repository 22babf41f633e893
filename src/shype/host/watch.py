"""`shype watch`: takes guests that have ended, puts on record what was refused, and measures what
is new, all the time; one process for a host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from shype.base.errors import ShypeError, Unavailable
from shype.host import caps
from shype.host.admission import enforced
from shype.host.agent import Agent
from shype.host.attestation.losses import Loss, follow
from shype.host.audit.collect import collect
from shype.host.ended import Followed, next_due
from shype.host.launch import catch_up
from shype.host.lock import LaunchLock
from shype.host.measured import observe
from shype.host.network import mediation

#: Seconds without word of an ending after which it looks all the same.
LOOK = 60.0
#: The same where VMs depend on the host's being trusted, or where it measures itself.
TRUST = 5.0
#: The same where VMs are held to shares that root could lift.
KEEP = 10.0
#: Seconds until it tries again what it could not do.
AGAIN = 5.0
#: Seconds between two glances at the hypervisor's console, and while it goes on printing. Its
#: ring has 16 KiB by default: some hundred denials.
GLANCE = 0.1
BUSY = 0.01

_Tell = Callable[[Followed | Loss | ShypeError], None]


def watch(
    agent: Agent, tell: _Tell, *, go_on: Callable[[], bool],
    again: Callable[[], Agent] | None = None,
) -> None:
    """Follow every ending, and record every denial, until ``go_on`` says no (it is asked after
    each glance); ``tell`` hears of each ending, and of errors.  ``again`` makes the agent anew when
    the hypervisor has got another policy.

    What goes wrong is tried again: this never ends by itself.  Raises Unavailable
    (``watch.running``) if another process watches this host.
    """
    with _alone(agent), agent.hypervisor.endings() as wait:
        collector, measuring = _Collector(agent, tell), _Measuring(tell)
        measuring.look(agent)
        left = _look(agent, tell)
        collector.all()
        while go_on():
            began = time.monotonic()
            ended = wait(min(BUSY if collector.busy else GLANCE, left))
            left -= time.monotonic() - began
            if again is not None and (ended or left <= 0 or collector.busy):
                agent = collector.agent = _current(agent, again, tell)
            if ended or left <= 0:
                measuring.look(agent)
                left = _look(agent, tell)
                collector.all()
            else:
                collector.denials()


def _current(agent: Agent, again: Callable[[], Agent], tell: _Tell) -> Agent:
    """``agent``, or one by the host's bundle as it is now, if the policy has been updated."""
    try:
        return agent if enforced(agent) else again()
    except ShypeError as error:
        if error.id != "lock.busy":  # the update is at work still
            tell(error)
        return agent


class _Measuring:
    """Measures agent, policy and mode if one of them is new, where a host measures anything."""

    def __init__(self, tell: _Tell) -> None:
        self._tell = tell
        self._told = ""

    def look(self, agent: Agent) -> None:
        """What keeps it from measuring is told once.

        An update that is at work, or was killed, measures for itself: what is in force then is
        not the agent's policy.
        """
        error = self._observe(agent)
        if error is not None and error.id != self._told:
            self._tell(error)
        self._told = "" if error is None else error.id

    def _observe(self, agent: Agent) -> ShypeError | None:
        try:
            with agent.lock.hold(0):
                return observe(agent) if agent.measurer.active and enforced(agent) else None
        except ShypeError:  # a busy lock; anything else is told by the look
            return None


class _Collector:
    """Collects when there is something new, and from time to time what waits for its record."""

    def __init__(self, agent: Agent, tell: _Tell) -> None:
        self.agent, self._tell = agent, tell
        self._seen: int | None = None
        self._not_before = 0.0
        #: Whether the console had something new.
        self.busy = False

    def denials(self) -> None:
        """If the console has said anything: that is asked in the hypervisor, without a process."""
        self.busy = False
        if time.monotonic() < self._not_before:
            return
        with self._told():
            now = self.agent.hypervisor.console(self._seen)
            if self._seen is None or now.end != self._seen:
                collect(self.agent)
                self.busy, self._seen = self._seen is not None, now.end

    def all(self) -> None:
        """Denials and refused frames, those that wait included."""
        with self._told():
            collect(self.agent)
        with self._told():
            mediation.take(self.agent)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ShypeError as error:
            self._not_before = time.monotonic() + AGAIN  # not ten times a second
            self._tell(error)


def _look(agent: Agent, tell: _Tell) -> float:
    """Look once; seconds until the next look at the latest."""
    try:
        with agent.lock.hold(AGAIN):
            for followed in catch_up(agent)[1]:
                tell(followed)
            due = next_due(agent)
        for loss in follow(agent, lock_timeout=AGAIN):
            tell(loss)
        if caps.concerned(agent):
            with agent.lock.hold(AGAIN):
                caps.keep(agent)
    except ShypeError as error:
        if error.id != "lock.busy":  # who holds it has begun with the same
            tell(error)
        return AGAIN
    most = KEEP if caps.concerned(agent) else LOOK
    if agent.policy.attestation is not None or agent.measurer.active:
        most = TRUST
    return most if due is None else min(due, most)


@contextlib.contextmanager
def _alone(agent: Agent) -> Iterator[None]:
    """Hold the lock of the one watcher."""
    lock = LaunchLock(agent.state, "watch.lock")
    try:
        with lock.hold(0):
            yield
    except Unavailable as error:
        if error.id != "lock.busy":
            raise
        raise Unavailable(
            "watch.running", f"process {lock.holder() or 'unknown'} watches this host already",
            "one is enough",
        ) from error
