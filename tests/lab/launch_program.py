"""Runs in dom0: kills launches at every step on the real hypervisor and reports what is left.

One JSON object per line: {"step": ..., "how": ..., "problems": [...]}.  Victims
are forked, so that an interpreter is started only once under emulation.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from shype.host.agent import Agent
from shype.host.census import held, residents, window
from shype.host.drivers.xen.driver import XenHypervisor
from shype.host.launch import Step, launch
from shype.host.recovery import recover
from shype.host.stop import stop
from shype.host.trust import KEYS, load_trusted

VMS = Path("/etc/xen/vms")
STATE = Path("/run/shype-kill-test")


def victim(agent: Agent, at: Step | None, how: str) -> int:
    """Fork a launch of a-db that dies at ``at``; its pid."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()

    def observe(step: Step) -> None:
        if step is at:
            if how == "group":
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        launch(agent, VMS / "a-db.cfg", observer=observe)
    finally:
        os._exit(0)


def await_calm(agent: Agent, seconds: float = 120) -> None:
    """Until nobody holds the lock and no launch is unfinished."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if agent.lock.holder() is None and not agent.journal.path.exists():
            return
        time.sleep(0.2)


def problems(agent: Agent, expected: set[str]) -> list[str]:
    """Everything that does not hold."""
    found = residents(agent)
    members = held(agent, found)
    names = {r.domain.name for r in found if r.domain.domid}
    wrong = []
    if window(agent).open:
        wrong.append("the window is open")
    if agent.journal.path.exists():
        wrong.append("the journal is unfinished")
    if names != expected:
        wrong.append(f"these run: {sorted(names)}, expected {sorted(expected)}")
    wrong += [f"{r.domain.name} is paused" for r in found if r.domain.paused]
    for member, boolean in agent.manifest.booleans.running.items():
        if agent.hypervisor.boolean(boolean) is not (member in members):
            wrong.append(f"{boolean} is wrong")
    return wrong


def half_built(agent: Agent) -> bool:
    """Whether a guest exists that is still being built."""
    return any(r.domain.domid and r.domain.paused for r in residents(agent))


def report(agent: Agent, step: str, how: str, expected: set[str]) -> None:
    await_calm(agent)
    tell(step, how, problems(agent, expected))


def tell(step: str, how: str, wrong: list[str]) -> None:
    """One line of the report."""
    sys.stdout.write(json.dumps({"step": step, "how": how, "problems": wrong}) + "\n")
    sys.stdout.flush()


def main() -> None:
    bundle = load_trusted(Path("/etc/shype/policy.shype"), KEYS)
    agent = Agent(bundle, XenHypervisor(), STATE)
    for number, step in enumerate(Step):
        how = "group" if number % 2 else "self"
        os.waitpid(victim(agent, step, how), 0)
        report(agent, step, how, {"a-db"} if step is Step.DONE else set())
    stop(agent, "a-db", force=True, timeout=0)

    pid = victim(agent, None, "xl")
    while not half_built(agent):
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    report(agent, "building", "self", set())

    outcome = launch(agent, VMS / "b-db.cfg")
    tell("after", "", problems(agent, {"b-db"}) if outcome.domid else [outcome.decision.sentence])
    with agent.lock.hold(5):
        recover(agent)


if __name__ == "__main__":
    main()
