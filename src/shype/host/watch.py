"""`shype watch`: takes guests that have ended, all the time; one process for a host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from shype.base.errors import ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.ended import Followed, next_due
from shype.host.launch import catch_up
from shype.host.lock import LaunchLock

#: Seconds without word of an ending after which it looks all the same.
LOOK = 60.0
#: Seconds until it tries again what it could not do.
AGAIN = 5.0


def watch(
    agent: Agent, tell: Callable[[Followed | ShypeError], None], *, go_on: Callable[[], bool],
) -> None:
    """Follow every ending, until ``go_on`` says no after a look; ``tell`` hears of each, and of
    errors.

    What goes wrong is tried again: this never ends by itself.  Raises Unavailable
    (``watch.running``) if another process watches this host.
    """
    with _alone(agent), agent.hypervisor.endings() as wait:
        due = _look(agent, tell)
        while go_on():
            wait(due)
            due = _look(agent, tell)


def _look(agent: Agent, tell: Callable[[Followed | ShypeError], None]) -> float:
    """Look once; seconds until the next look at the latest."""
    try:
        with agent.lock.hold(AGAIN):
            for followed in catch_up(agent)[1]:
                tell(followed)
            due = next_due(agent)
    except ShypeError as error:
        if error.id != "lock.busy":  # who holds it has begun with the same
            tell(error)
        return AGAIN
    return LOOK if due is None else min(due, LOOK)


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
