"""Saving and restoring: the label is this host's word, and no guest is lost."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.census import window
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import CreateFailed, Ending
from shype.host.image import Head, dumps, read_head
from shype.host.launch import Step, catch_up, launch
from shype.host.receipt import Receipts
from shype.host.restoring import restore
from shype.host.saving import save
from shype.host.stop import stop
from tests.host.builders import config, context, host, model
from tests.host.invariants import assert_sound, guests
from tests.host.test_kill import until_sound


def saved(agent: Agent, directory: Path, vm: str = "a-db", extra: str = "") -> Path:
    launch(agent, config(directory, vm, extra))
    return save(agent, vm, directory / f"{vm}.img").file


def head(file: Path) -> Head:
    return read_head(io.BytesIO(file.read_bytes()).read)


def test_a_saved_vm_releases_its_wall_and_comes_back(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    done = save(agent, "a-db", tmp_path / "a.img")
    assert (done.vm, done.label, done.released) == ("a-db", "bank-a-db", ("run_bank_a",))
    assert done.size == done.file.stat().st_size
    assert done.file.stat().st_mode & 0o777 == 0o600
    assert guests(agent) == {}
    assert_sound(agent)
    outcome = restore(agent, done.file)
    assert outcome.domid == 2
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)
    # and it still knows what it was started from
    model(agent).end(2, Ending.REBOOT)
    with agent.lock.hold(1):
        catch_up(agent)
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)


def test_the_wall_is_decided_anew(tmp_path: Path) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    launch(agent, config(tmp_path, "b-db"))
    refused = restore(agent, file)
    assert refused.decision.id == "wall.conflict"
    assert guests(agent) == {"b-db": "bank-b-db"}
    assert_sound(agent)
    stop(agent, "b-db", force=True, timeout=0)
    assert restore(agent, file).domid is not None


def test_a_vm_labelled_by_its_configuration_keeps_that_label(tmp_path: Path) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path, "other", 'seclabel = "market-data"')
    assert restore(agent, file, foreign=True).label == "market-data"
    assert guests(agent) == {"other": "market-data"}


def forge(file: Path, **create: str) -> None:
    """Change what the image says of the VM, and leave the rest, its receipt included."""
    old = head(file)
    config = {**old.config, "c_info": {**old.config["c_info"], **create}}
    file.write_bytes(dumps(config, old.receipt or "") + file.read_bytes()[len(old.raw):])


def no_receipt(file: Path) -> None:
    old = head(file)
    file.write_bytes(dumps(old.config) + file.read_bytes()[len(old.raw):])


def memory(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-5] + b"evil\n")


def no_file(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(("change", "foreign", "ends"), [
    (lambda f: forge(f, ssid_label=context("l_bank_b_db_t")), False, "image.mismatch"),
    (lambda f: forge(f, ssid_label=context("l_bank_b_db_t")), True, "image.mismatch"),
    (lambda f: forge(f, ssid_label="u:r:l_nowhere_t:s0"), True, "image.mismatch"),
    (lambda f: forge(f, ssid_label=""), True, "image.mismatch"),
    (lambda f: forge(f, name="b-db"), True, "image.mismatch"),
    (lambda f: forge(f, name="b-db", ssid_label=context("l_bank_b_db_t")), False,
     "image.mismatch"),
    (lambda f: forge(f, name="a-desk", ssid_label=context("l_bank_a_desk_t")), False,
     "image.mismatch"),
    (lambda f: forge(f, name="stray"), False, "image.altered"),
    (no_receipt, False, "image.unknown"),
    (no_receipt, True, "runs"),
    (memory, False, "image.altered"),
    (lambda f: f.write_bytes(f.read_bytes() + b"x"), False, "image.altered"),
    (lambda f: f.write_bytes(f.read_bytes()[:-1]), False, "create.failed"),
    (lambda f: f.write_bytes(head(f).raw + b"mem"), False, "create.failed"),
    (lambda f: f.write_bytes(b"no image"), True, "image.invalid"),
    (lambda f: f.unlink(), True, "image.unreadable"),
    (no_file, True, "image.unreadable"),
])
def test_forged_images(
    tmp_path: Path, change: Callable[[Path], object], foreign: bool, ends: str
) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    change(file)
    try:
        outcome = restore(agent, file, foreign=foreign)
        ended = "runs" if outcome.domid else str(outcome.decision.id)
    except ShypeError as error:
        ended = error.id
    assert ended == ends
    assert guests(agent) == ({"a-db": "bank-a-db"} if ends == "runs" else {})
    assert_sound(agent)


def test_a_receipt_is_of_one_vm(tmp_path: Path) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    other = saved(agent, tmp_path, "market")
    old, name = head(file), head(other).receipt
    assert name is not None
    file.write_bytes(dumps(old.config, name) + file.read_bytes()[len(old.raw):])
    assert restore(agent, file).decision.id == "image.unknown"


@pytest.mark.parametrize("fails", ["exists", "place", "full", "receipt", "xl"])
def test_what_cannot_be_saved_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    file = tmp_path / ("none/a.img" if fails == "place" else "a.img")
    if fails == "exists":
        file.write_text("mine")

    def full(self: object, *args: object) -> None:
        raise OSError(28, "No space left on device")

    def broken(self: object, *args: object) -> None:
        raise Unavailable("xl.failed", "xl: it broke")

    if fails == "full":
        monkeypatch.setattr("shype.host.saving._Writer._put", full)
    if fails == "receipt":
        monkeypatch.setattr(Receipts, "put", broken)
    if fails == "xl":
        monkeypatch.setattr(ModelHypervisor, "save", broken)
    with pytest.raises(ShypeError) as caught:
        save(agent, "a-db", file)
    assert caught.value.id == {
        "exists": "save.exists", "place": "save.failed", "full": "save.failed"}.get(
        fails, "xl.failed")
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)
    assert file.exists() == (fails == "exists")


def test_the_window_closes_before_the_memory_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    seen = list[bool]()
    build = ModelHypervisor.create

    def look(
        self: ModelHypervisor, *args: object, within: Callable[[], None], **more: object
    ) -> int:
        def during() -> None:
            within()
            seen.append(window(agent).open)

        return build(self, *args, within=during, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelHypervisor, "create", look)
    assert restore(agent, file).domid is not None
    assert seen == [False]


VICTIM = """\
import os, signal, sys
from pathlib import Path
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.restoring import restore
from shype.policy.manifest import load_bundle

directory = Path(sys.argv[1])
bundle = load_bundle(directory / "bundle")
agent = Agent(bundle, ModelHypervisor(bundle, directory / "model.json"), directory / "state")
restore(agent, Path(sys.argv[2]), observer=lambda step: step == sys.argv[3]
        and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("step", [Step.OPENED, Step.CREATED, Step.VERIFIED, Step.KEPT])
def test_killed_while_restoring(tmp_path: Path, step: Step) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, tmp_path, file, step], capture_output=True, check=False,
        timeout=60)
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    until_sound(agent)
    assert guests(agent) == {}
    assert restore(agent, file).domid is not None
    assert_sound(agent)


def test_root_restores_nothing_behind_the_agents_back(tmp_path: Path) -> None:
    agent = host(tmp_path)
    file = saved(agent, tmp_path)
    with pytest.raises(CreateFailed):
        agent.hypervisor.restore_paused(lambda ended: iter([file.read_bytes()]))
    assert_sound(agent)


def test_a_vm_without_a_label_of_the_policy_is_not_saved(tmp_path: Path) -> None:
    agent = host(tmp_path)
    with pytest.raises(BadInput):
        save(agent, "none", tmp_path / "x.img")
