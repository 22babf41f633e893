"""SIGKILL at every step of an update: the host has the old policy wholly, or the new one.

The command runs as a process of its own on the persisted model; its own observer kills it.
Then its guardian goes on, or (the guardian killed as well) the next command.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shype.host.update.journal import UpdateJournal
from shype.host.update.update import Step, unfinished
from tests.cli.on_model import run
from tests.host.update.shop import NEW, VMS, Shop

VICTIM = """\
import os, signal, sys
from pathlib import Path
from shype.host.drivers.model import ModelHypervisor
from shype.host.update import health, staged
from shype.host.update.update import Step, Update

place, at, times, how, test = Path(sys.argv[1]), *sys.argv[2:]
own = Path("/proc/self/cmdline").read_bytes()
if test == "fails":
    health.problems = lambda *given: ("it decides otherwise",)

seen = []
def observe(step):
    seen.append(step)
    if step != at or seen.count(step) < int(times):
        return
    if how == "all":  # the guardian too: it shows this very command line
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if (entry / "cmdline").read_bytes() == own:
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    pass
    os.kill(os.getpid(), signal.SIGKILL)

old, new = (staged.read(place / f"{name}.shype", place / "keys") for name in ("policy", "new"))
update = Update(old, new, place / "policy.shype", place / "state",
                lambda bundle: ModelHypervisor(bundle, place / "model.json"), observe)
with update.before.lock.hold(5):
    update.apply()
"""
#: From this step on the new policy has stood its test.
FORWARD = [Step.COMMITTING, Step.COMMITTED, Step.REVOKED, Step.DONE]


def kill(shop: Shop, at: Step, how: str, test: str = "stands", *, times: int = 1) -> None:
    """Apply NEW in a process that kills itself when it comes to a step for the nth time."""
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, str(shop.place), at, str(times), how, test],
        capture_output=True, timeout=60, start_new_session=True, check=False)
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()


def made(place: Path) -> Shop:
    """A host with a mapping that NEW forbids; NEW destroys who has it."""
    shop = Shop(place, NEW.replace("pause", "destroy"))
    shop.share("web-1", "db-1")
    return shop


def assert_old_or_new(shop: Shop) -> str:
    """One policy wholly, with its consequences; its version."""
    version = shop.assert_whole()
    if version == "1.0":
        assert shop.states() == dict.fromkeys(VMS, False)
    else:
        assert shop.states() == {"db-1": False, "till-1": False}
    return version


@pytest.mark.parametrize("step", [s for s in Step if s not in (Step.PLANNED, Step.RETURNED)])
def test_the_guardian_goes_on(tmp_path: Path, step: Step) -> None:
    shop = made(tmp_path)
    kill(shop, step, "self")
    until_over(shop)
    loaded = step not in (Step.RECORDED, Step.PAUSED, Step.OPENED)
    assert assert_old_or_new(shop) == ("1.1" if loaded else "1.0")


@pytest.mark.parametrize("step", [s for s in Step if s not in (Step.PLANNED, Step.RETURNED)])
def test_without_its_guardian_the_next_command_goes_on(tmp_path: Path, step: Step) -> None:
    from shype.cli import host as commands

    shop = made(tmp_path)
    kill(shop, step, "all")
    words = ["--bundle", shop.file, "--keys", tmp_path / "keys", "--state", shop.agent.state,
             "--driver", "model", "--model-file", tmp_path / "model.json"]
    status = run([commands.add], ["status", *words])
    assert (status == 0) is (step is Step.DONE), "an unfinished update is shown"
    assert run([commands.add], ["ps", *words]) == 0
    loaded = step not in (Step.RECORDED, Step.PAUSED, Step.OPENED)
    assert assert_old_or_new(shop) == ("1.1" if loaded else "1.0")


@pytest.mark.parametrize(("step", "times"), [
    (Step.OPENED, 2), (Step.LOADED, 2), (Step.RETURNED, 1)])
def test_killed_on_the_way_back(tmp_path: Path, step: Step, times: int) -> None:
    """The way back loads, too."""
    shop = made(tmp_path)
    kill(shop, step, "all", "fails", times=times)
    journal = UpdateJournal(shop.agent.state)
    assert journal.unfinished
    with shop.agent.lock.hold(5):
        left = unfinished(shop.agent.state, tmp_path / "keys", shop.driver)
        assert left is not None
        left.resume()
    assert assert_old_or_new(shop) == "1.0"


def test_an_update_before_a_reboot_ends_with_it(tmp_path: Path) -> None:
    shop = made(tmp_path)
    kill(shop, Step.PAUSED, "all")
    journal = UpdateJournal(shop.agent.state)
    text = journal.path.read_text()
    record = journal.read()
    assert record is not None
    assert record.paused == {str(shop.domid("web-1")): next(
        d.uuid for d in shop.agent.hypervisor.domains() if d.name == "web-1")}
    journal.path.write_text(text.replace(record.boot, "another-boot"))
    with shop.agent.lock.hold(5):
        left = unfinished(shop.agent.state, tmp_path / "keys", shop.driver)
        assert left is not None
        left.resume()
    assert shop.assert_whole() == "1.0"
    assert shop.states()["web-1"], "a paused domain of another boot is not this one"


def until_over(shop: Shop) -> None:
    """Wait for the guardian."""
    deadline = time.monotonic() + 20
    journal = UpdateJournal(shop.agent.state)
    while shop.agent.lock.holder() is not None or journal.unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.02)
