"""Runs in dom0: restorations and receptions that are killed where they are told to be.

`python3 dying_program.py restore IMAGE`: kills restorations of IMAGE, one for each of `CASES`, and
reports what is left, a JSON object each: {"at": ..., "who": ..., "problems": [...]}.

`python3 dying_program.py receive FILE`: `shype receive` as an ssh key's command, which FILE tells
at what to be killed, and who.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shype.host.agent import Agent
from shype.host.census import held, residents, window
from shype.host.drivers.xen.driver import XenHypervisor
from shype.host.hypervisor import Source
from shype.host.launch import Step, catch_up
from shype.host.receiving import Announcement, answer, receive
from shype.host.restoring import restore
from shype.host.trust import KEYS, load_trusted

STATE = Path("/var/lib/shype")
#: In the midst of the memory, which is no step of the agent's.
MEMORY = "memory"
SELF, BOTH = "agent", "agent and guardian"
CASES = (
    (Step.OPENED, BOTH), (MEMORY, SELF), (MEMORY, BOTH), (Step.KEPT, BOTH), (Step.UNPAUSED, SELF),
    (Step.DONE, BOTH),
)


def die(who: str) -> None:
    """End at once, as if killed; the guardian, if it is to die too, dies first."""
    own = Path("/proc/self/cmdline").read_bytes()
    for entry in Path("/proc").iterdir() if who == BOTH else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if parent == "1" and (entry / "cmdline").read_bytes() == own:
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(XenHypervisor):
    """Dies when it has given the toolstack some memory of a guest."""

    who = ""

    def restore_paused(self, source: Source) -> None:
        def stream(ended: Callable[[], bool]) -> Iterator[bytes]:
            for number, chunk in enumerate(source(ended)):
                if number == 3:  # the head, and then more only when there is a domain
                    die(self.who)
                yield chunk

        super().restore_paused(stream if self.who else source)


def agent_that_dies(at: str, who: str) -> tuple[Agent, Callable[[Step], None]]:
    """An agent, and an observer of its steps, that die at ``at``."""
    hypervisor = Dying()
    if at == MEMORY:
        hypervisor.who = who

    def observe(step: Step) -> None:
        if step == at:
            die(who)

    bundle = load_trusted(Path("/etc/shype/policy.shype"), KEYS)
    return Agent(bundle, hypervisor, STATE), observe


def restores(image: Path) -> None:
    """Kill a restoration in each case, and look."""
    agent = agent_that_dies("", "")[0]
    size = image.stat().st_size
    for at, who in CASES:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                dying, observe = agent_that_dies(at, who)
                restore(dying, image, observer=observe)
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
        problems = [] if os.WTERMSIG(status) == signal.SIGKILL else ["it was not killed"]
        if who == BOTH:
            problems += unmended(agent, at)
            with agent.lock.hold(60):
                catch_up(agent)  # as every command that changes the host begins
        problems += left(agent, at == Step.DONE)
        if image.stat().st_size != size:
            problems.append("the image is another")
        tell({"at": at, "who": who, "problems": problems})


def tell(value: object) -> None:
    """One line of the report."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def unmended(agent: Agent, at: str) -> list[str]:
    """What shows that no guardian was there."""
    wrong = []
    if window(agent).open is not (at == Step.OPENED):
        wrong.append(f"the window should be {'open' if at == Step.OPENED else 'closed'}")
    if agent.journal.path.exists() is (at == Step.DONE):
        wrong.append("the journal is not as it was")
    return wrong


def left(agent: Agent, runs: bool) -> list[str]:
    """Everything that does not hold when the guardian, or a command, has been."""
    deadline = time.monotonic() + 120
    while agent.lock.holder() is not None or agent.journal.path.exists():
        if time.monotonic() > deadline:
            return ["the journal is unfinished"]
        time.sleep(0.2)
    found = residents(agent)
    members = held(agent, found)
    wrong = ["the window is open"] if window(agent).open else []
    names = {r.domain.name: r.label for r in found if r.domain.domid}
    if names != ({"a-db": "bank-a-db"} if runs else {}):
        wrong.append(f"these run: {names}")
    for member, boolean in agent.manifest.booleans.running.items():
        if agent.hypervisor.boolean(boolean) is not (member in members):
            wrong.append(f"{boolean} is wrong")
    return wrong


def receives(told: Path) -> None:
    """Be the receiver."""
    at, _, who = told.read_text().strip().partition(" ")
    agent, observe = agent_that_dies(at, who)
    if os.environ["SSH_ORIGINAL_COMMAND"].endswith("--query"):
        tell(answer(agent, Announcement.loads(sys.stdin.buffer.read())).to_json())
    elif (outcome := receive(agent, 0, 1, "one", observer=observe)).domid is None:
        sys.exit(outcome.decision.sentence)


if __name__ == "__main__":
    {"restore": restores, "receive": receives}[sys.argv[1]](Path(sys.argv[2]))
