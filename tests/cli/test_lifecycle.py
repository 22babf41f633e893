"""watch, reboot, pause, unpause, save, restore: what they print and how they end, on the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.cli import host as host_cli
from shype.cli import lifecycle
from shype.host.agent import Agent
from shype.host.hypervisor import Ending
from shype.host.launch import launch
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import config, context, model
from tests.host.invariants import assert_sound, guests

MARK = "MODEL, not a hypervisor:\n"
Read = Callable[[], dict[str, object]]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """A host on which a-db runs, as domain 1."""
    made = signed_host(tmp_path)
    launch(made, config(tmp_path, "a-db"))
    return made


@pytest.fixture
def run(tmp_path: Path, agent: Agent) -> Shell:
    given = options(tmp_path, agent)
    return lambda command, *words: run_words(
        (host_cli.add, lifecycle.add), (command, *given, *words))


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Read:
    """The JSON on standard output, which says that it is about a model."""
    def value() -> dict[str, object]:
        said: dict[str, object] = json.loads(capsys.readouterr().out)
        assert said.pop("driver") == "model"
        return said

    return value


def test_pause_and_unpause(
    run: Shell, agent: Agent, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pause", "a-db") == 0
    assert capsys.readouterr().out == f"{MARK}a-db (domain 1) is paused\n"
    assert [d.paused for d in agent.hypervisor.domains() if d.domid] == [True]
    assert run("unpause", "1", "--json") == 0
    assert read() == {"vm": "a-db", "domid": 1}
    assert_sound(agent)
    assert run("pause", "nobody") == 2
    assert run("unpause", "0") == 2


def test_a_reboot_by_force(
    run: Shell, agent: Agent, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reboot", "a-db", "--force") == 0
    assert capsys.readouterr().out == f"{MARK}a-db runs again as domain 2\n"
    assert run("reboot", "a-db", "--json") == 0  # and one by the guest, which is asked to
    assert read() == {"vm": "a-db", "domid": 3, "decision": None}
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)


def test_a_reboot_that_the_policy_refuses(
    run: Shell, agent: Agent, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    # a VM of the other side of the wall, which came there past shype
    other = agent.manifest.label_of_context(context("l_bank_b_db_t"))
    wall = agent.manifest.booleans.running
    model(agent).set_booleans(
        agent.manifest.window_values(other) | dict.fromkeys(wall.values(), False))
    model(agent).create("b-db", context("l_bank_b_db_t"))
    model(agent).set_booleans(agent.manifest.window_values(None))
    assert run("reboot", "a-db", "--force") == 1
    assert "denied by the agent: bank-a-db may not start" in capsys.readouterr().out
    assert run("reboot", "a-db", "--json") == 1  # it is tried again by hand
    decision = read()["decision"]
    assert isinstance(decision, dict)
    assert decision["id"] == "wall.conflict"
    assert guests(agent) == {"b-db": "bank-b-db"}
    assert run("reboot", "b-db") == 3
    assert "reboot.not-kept" in capsys.readouterr().err


def test_a_guest_that_does_not_end(
    run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    model(agent).pause(1)  # the model's guests obey at once, but for a paused one
    assert run("reboot", "a-db", "--timeout", "0") == 3
    assert "reboot.timeout" in capsys.readouterr().err
    assert guests(agent) == {"a-db": "bank-a-db"}


def test_watch_tells_each_ending(
    run: Shell, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model(agent).end(1, Ending.REBOOT)
    assert run("watch", "--once") == 0
    assert capsys.readouterr().out == f"{MARK}a-db runs again as domain 2\n"
    launch(agent, config(tmp_path, "market", 'on_crash = "coredump-destroy"'))
    model(agent).end(3, Ending.CRASH)
    assert run("watch", "--once") == 0
    assert capsys.readouterr().out == MARK  # xl has done it all: nothing is left to follow up
    assert guests(agent) == {"a-db": "bank-a-db"}


def test_watch_tells_what_does_not_run_again(
    run: Shell, agent: Agent, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    uuid = next(d.uuid for d in agent.hypervisor.domains() if d.name == "a-db")
    kept = agent.kept.get(uuid)
    assert kept is not None
    agent.kept.change(kept, config=None)  # as of a VM that xl migrated here
    model(agent).end(1, Ending.REBOOT)
    assert run("watch", "--once", "--json") == 0
    said = read()
    error = said.pop("error")
    assert said == {
        "vm": "a-db", "ending": None, "action": "restart", "domid": None, "decision": None}
    assert isinstance(error, dict)
    assert error["error"] == "reboot.no-configuration"
    assert guests(agent) == {}
    assert_sound(agent)
    assert run("watch", "--once") == 0
    assert capsys.readouterr().out == MARK


def test_a_guest_that_reboots_in_a_loop_is_told_of(
    run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    for domid in range(1, 5):
        model(agent).end(domid, Ending.REBOOT)
        capsys.readouterr()
        assert run("watch", "--once") == 0
    assert capsys.readouterr().out == f"{MARK}a-db has ended (reboot): restart\n"
    assert guests(agent) == {}


def test_save_and_restore(
    run: Shell, agent: Agent, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.img"
    assert run("save", "a-db", file) == 0
    assert capsys.readouterr().out == f"{MARK}a-db (bank-a-db) is saved in {file}, 0 MiB\n"
    assert guests(agent) == {}
    assert run("restore", file) == 0
    assert "a-db runs as domain 2 with the label bank-a-db" in capsys.readouterr().out
    again = tmp_path / "b.img"
    assert run("save", "2", again, "--json") == 0
    assert read() == {
        "vm": "a-db", "label": "bank-a-db", "file": str(again), "released": ["run_bank_a"],
        "size": again.stat().st_size}
    assert run("restore", again, "--json") == 0
    assert read()["domid"] == 3
    assert_sound(agent)


@pytest.mark.parametrize(("words", "code", "id"), [
    (("save", "nobody", "x.img"), 2, "vm.unknown"),
    (("save", "a-db", "a-db.cfg"), 2, "save.exists"),
    (("restore", "none.img"), 2, "image.unreadable"),
    (("restore", "a-db.cfg"), 2, "image.invalid"),
])
def test_what_cannot_be_saved_or_restored(
    run: Shell, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, id: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    assert id in capsys.readouterr().err
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)


def test_an_image_of_another_host_needs_the_word(
    run: Shell, agent: Agent, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.img"
    run("save", "a-db", file)
    for receipt in (agent.state / "saved").iterdir():
        receipt.unlink()
    capsys.readouterr()
    assert run("restore", file, "--json") == 1
    decision = read()["decision"]
    assert isinstance(decision, dict)
    assert decision["id"] == "image.unknown"
    assert run("restore", file, "--foreign") == 0
    assert guests(agent) == {"a-db": "bank-a-db"}
