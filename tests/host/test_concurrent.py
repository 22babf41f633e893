"""Several agents at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.launch import launch
from shype.host.lock import LaunchLock
from tests.host.builders import config, host
from tests.host.invariants import assert_sound, guests

ONE = """\
import sys
from pathlib import Path
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.launch import launch
from shype.policy.manifest import load_bundle

directory = Path(sys.argv[1])
bundle = load_bundle(directory / "bundle")
agent = Agent(bundle, ModelHypervisor(bundle, directory / "model.json"), directory / "state")
outcome = launch(agent, Path(sys.argv[2]), lock_timeout=120)
print("runs" if outcome.domid is not None else outcome.decision.id)
"""

HOLDER = """\
import sys, time
from pathlib import Path
from shype.host.lock import LaunchLock
with LaunchLock(Path(sys.argv[1])).hold(5):
    print("held", flush=True)
    time.sleep(60)
"""


def test_of_ten_launches_against_each_other_one_side_of_the_wall_wins(tmp_path: Path) -> None:
    agent = host(tmp_path)
    agents = []
    for number in range(10):
        side = "ab"[number % 2]
        cfg = config(tmp_path, f"vm{number}", f'seclabel = "bank-{side}-db"')
        agents.append(subprocess.Popen(
            [sys.executable, "-c", ONE, str(tmp_path), str(cfg)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))
    answers = [process.communicate(timeout=120) for process in agents]
    assert [err for _, err in answers if err] == []
    words = sorted(out.strip() for out, _ in answers)
    assert words == ["runs"] * 5 + ["wall.conflict"] * 5
    assert set(guests(agent).values()) in ({"bank-a-db"}, {"bank-b-db"})
    assert_sound(agent)


def test_the_second_agent_waits_and_then_names_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "state")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        agent = host(tmp_path)
        assert agent.lock.holder() == holder.pid
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"process {holder.pid} ") as caught:
            launch(agent, config(tmp_path, "a-db"), lock_timeout=0.3)
        assert caught.value.id == "lock.busy"
        assert 0.3 <= time.monotonic() - began < 5
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    assert agent.lock.holder() is None
    assert launch(agent, config(tmp_path, "a-db")).domid == 1


def test_a_clock_that_jumps_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, jumps = host(tmp_path), iter(range(10**9, 0, -10**8))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    assert launch(agent, config(tmp_path, "a-db")).domid == 1
    assert_sound(agent)


def test_the_lock_is_free_again_after_an_error_inside(tmp_path: Path) -> None:
    lock = LaunchLock(tmp_path / "state")
    with pytest.raises(ZeroDivisionError), lock.hold(1):
        raise ZeroDivisionError
    assert lock.holder() is None


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught, LaunchLock(tmp_path / "file" / "state").hold(1):
        pass
    assert caught.value.id == "state.unwritable"


def test_of_fifty_requests_at_once_one_side_of_the_wall_wins(tmp_path: Path) -> None:
    agent = host(tmp_path)
    pids = []
    for number in range(50):
        cfg = config(tmp_path, f"vm{number}", f'seclabel = "bank-{"ab"[number % 2]}-db"')
        pid = os.fork()
        if pid == 0:  # a process of its own, as every command is; it never returns into the test
            code = 3
            try:
                code = 0 if launch(agent, cfg, lock_timeout=300).domid is not None else 1
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert sorted(set(codes[0::2]) | set(codes[1::2])) == [0, 1]
    assert len(set(codes[0::2])) == len(set(codes[1::2])) == 1
    assert len(guests(agent)) == 25
    assert len(set(guests(agent).values())) == 1
    assert_sound(agent)
