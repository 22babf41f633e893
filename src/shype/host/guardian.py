"""The guardian: a process that outlives a killed agent just long enough to clean up after it.

It is forked before the launch window opens, in a session of its own, and blocks
on the launch lock.  The kernel releases that lock when the agent ends, whatever
ends it; the guardian then recovers if the journal says that the launch was
unfinished, and exits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.recovery import recover

_READY = b"1"


def post(agent: Agent, then: Callable[[], None] = lambda: None) -> None:
    """Start a guardian; it watches when this returns. Hold the launch lock.

    ``then`` is what it does besides when the lock is free.

    Raises Unavailable (``guardian.failed``) if it does not come up.
    """
    hear, tell = os.pipe()
    try:
        # Forked twice: the guardian is init's child, and no zombie of ours.
        middle = os.fork()
        if middle == 0:
            _detach(agent, tell, then)
        os.close(tell)
        tell = -1
        os.waitpid(middle, 0)
        ready = os.read(hear, 1)
    except OSError as error:
        raise _failed(str(error)) from error
    finally:
        os.close(hear)
        if tell >= 0:
            os.close(tell)
    if ready != _READY:
        raise _failed("it ended at once")


def _failed(why: str) -> Unavailable:
    return Unavailable(
        "guardian.failed", f"the process that guards the launch window did not start: {why}",
        "free memory or processes; no VM was touched",
    )


def _detach(agent: Agent, tell: int, then: Callable[[], None]) -> NoReturn:
    # Whatever happens, a forked child must never return into the agent's own stack.
    code = 1
    try:
        os.setsid()
        if os.fork() == 0:
            _watch(agent, tell, then)
        code = 0
    finally:
        os._exit(code)


def _watch(agent: Agent, tell: int, then: Callable[[], None]) -> None:
    # It ends by itself as soon as the lock is free; until then only SIGKILL may end it.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    # The inherited descriptors include the agent's lock: held on, it would never be released.
    os.closerange(3, tell)
    os.closerange(tell + 1, os.sysconf("SC_OPEN_MAX"))
    os.write(tell, _READY)
    os.close(tell)
    with agent.lock.wait():
        if agent.journal.path.exists():
            agent.record(Event(
                kind="guardian", result=Result.DONE, deferrable=True,
                message="the agent ended in the midst of a launch"))
            recover(agent)
        then()
