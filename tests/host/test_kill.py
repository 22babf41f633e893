"""SIGKILL at every step: no window stays open, no half-made domain, the wall is true.

The agent runs as a process of its own on the persisted model; its own observer
kills it.  Then either the guardian cleans up, or (guardian killed as well) the
next command does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shype.host.agent import Agent
from shype.host.census import window
from shype.host.launch import Step, launch
from tests.host.builders import config, host
from tests.host.invariants import assert_sound, guests

VICTIM = """\
import os, signal, sys
from pathlib import Path
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.launch import Step, launch
from shype.policy.manifest import load_bundle

directory, cfg, at, how, seconds = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
own = Path("/proc/self/cmdline").read_bytes()
bundle = load_bundle(directory / "bundle")
model = ModelHypervisor(bundle, directory / "model.json", float(seconds))

def observe(step):
    print(step, flush=True)
    if step != at:
        return
    if how == "all":  # the guardian too: it shows this very command line
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if (entry / "cmdline").read_bytes() == own:
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    pass
    if how == "group":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

outcome = launch(Agent(bundle, model, directory / "state"), cfg, observer=observe)
print("ended", outcome.domid, flush=True)
"""


def start(
    directory: Path, cfg: Path, at: str, how: str = "self", seconds: float = 0
) -> subprocess.Popen[bytes]:
    """An agent that kills itself (or its whole process group) at a step."""
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(directory), str(cfg), at, how, str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )


def until_sound(agent: Agent, seconds: float = 10) -> None:
    """Wait for the guardian, then everything must hold."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = agent.lock.holder() is None and not agent.journal.path.exists()
        if done and not window(agent).open:
            break
        time.sleep(0.02)
    assert_sound(agent)


_ORDER = list(Step)
BEFORE_JOURNAL = _ORDER[:_ORDER.index(Step.RESERVED)]
AFTER_JOURNAL = _ORDER[_ORDER.index(Step.RESERVED):_ORDER.index(Step.DONE)]


@pytest.mark.parametrize("how", ["self", "group"])
@pytest.mark.parametrize("step", list(Step))
def test_killed_at_every_step_the_guardian_cleans_up(tmp_path: Path, step: Step, how: str) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "market"))  # an innocent bystander, which must survive
    victim = start(tmp_path, config(tmp_path, "a-db"), step, how)
    victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL
    if step in BEFORE_JOURNAL:
        agent.prepared.unlink(missing_ok=True)  # an inert file; the next launch replaces it
    until_sound(agent)
    expected = {"market": "market-data"}
    if step is Step.DONE:
        expected["a-db"] = "bank-a-db"
    assert guests(agent) == expected
    # The other side of the wall may start exactly if the killed launch left nothing.
    outcome = launch(agent, config(tmp_path, "b-db"))
    assert (outcome.domid is None) == (step is Step.DONE)
    assert_sound(agent)


@pytest.mark.parametrize("step", AFTER_JOURNAL)
def test_without_its_guardian_the_next_command_cleans_up(tmp_path: Path, step: Step) -> None:
    agent = host(tmp_path)
    victim = start(tmp_path, config(tmp_path, "a-db"), step, "all")
    victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL
    assert agent.journal.path.exists()
    assert window(agent).open == (step in (Step.OPENED, Step.CREATED))
    assert launch(agent, config(tmp_path, "b-db")).domid is not None
    assert guests(agent) == {"b-db": "bank-b-db"}
    assert_sound(agent)


def test_killed_while_the_toolstack_builds(tmp_path: Path) -> None:
    """The domain exists, nameless, when the agent dies."""
    agent = host(tmp_path)
    victim = start(tmp_path, config(tmp_path, "a-db"), "never", seconds=30)
    wait_for_half_made(agent)
    victim.kill()
    victim.communicate(timeout=60)
    until_sound(agent)
    assert guests(agent) == {}


def wait_for_half_made(agent: Agent) -> None:
    """Until the victim's domain exists."""
    deadline = time.monotonic() + 30
    while not guests(agent):
        assert time.monotonic() < deadline
        time.sleep(0.02)
