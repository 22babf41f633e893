"""Stopping, status and recovery by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.census import window
from shype.host.drivers.model import UNLABELLED, ModelHypervisor
from shype.host.hypervisor import Ending
from shype.host.journal import reservation
from shype.host.launch import launch
from shype.host.migration import migrate
from shype.host.recovery import recover
from shype.host.saving import save
from shype.host.status import status
from shype.host.stop import stop
from shype.policy.model import Enforcement
from shype.policy.names import LabelName
from tests.host.builders import config, context, host, model
from tests.host.invariants import assert_sound, guests


@pytest.mark.parametrize("vm", ["a-db", "1"])
def test_stop_releases_the_wall(tmp_path: Path, vm: str) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    done = stop(agent, vm, force=False, timeout=5)
    assert (done.domain.name, done.destroyed, done.released) == ("a-db", False, ("run_bank_a",))
    assert_sound(agent)
    assert launch(agent, config(tmp_path, "b-db")).domid == 2


def test_force_destroys(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    assert stop(agent, "a-db", force=True, timeout=0).destroyed
    assert_sound(agent)


def test_a_guest_that_does_not_react_runs_on_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    monkeypatch.setattr(ModelHypervisor, "shutdown", lambda self, domid: None)
    with pytest.raises(Unavailable) as caught:
        stop(agent, "a-db", force=False, timeout=0.2)
    assert caught.value.id == "stop.timeout"
    assert agent.hypervisor.boolean("run_bank_a") is True
    assert stop(agent, "a-db", force=True, timeout=0.2).destroyed
    assert_sound(agent)


def test_a_zombie_keeps_its_wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    monkeypatch.setattr(
        ModelHypervisor, "shutdown", lambda self, domid: self.exit(domid, zombie=True))
    with pytest.raises(Unavailable, match="dying, but not gone"):
        stop(agent, "a-db", force=False, timeout=0.2)
    assert agent.hypervisor.boolean("run_bank_a") is True


@pytest.mark.parametrize(("vm", "id"), [
    ("Domain-0", "vm.dom0"), ("0", "vm.dom0"), ("7", "vm.unknown"), ("nobody", "vm.unknown"),
    ("١", "vm.unknown"),
])
def test_what_cannot_be_stopped(tmp_path: Path, vm: str, id: str) -> None:
    with pytest.raises(BadInput) as caught:
        stop(host(tmp_path), vm, force=True, timeout=0)
    assert caught.value.id == id


def test_status_of_a_sound_host(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    now = status(agent)
    assert now.sound
    assert {w.member: (w.runs, w.known) for w in now.wall} == {
        "bank-a": (True, True), "bank-b": (False, False)}
    model(agent).exit(1)  # ended by itself: the wall is released by the next command only
    assert status(agent).sound
    assert status(agent).wall[0].known


@pytest.mark.parametrize("what", ["window", "wall", "journal", "corrupt", "stranger"])
def test_status_sees_what_is_wrong(tmp_path: Path, what: str) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    if what == "window":
        model(agent).set_booleans(agent.manifest.window_values(LabelName("market-data")))
    elif what == "wall":
        model(agent).set_booleans({"run_bank_a": False})
    elif what == "journal":
        label = LabelName("market-data")
        agent.journal.reserve(reservation("m", "", label, context("l_market_data_t"), (0, 1)))
    elif what == "corrupt":
        agent.journal.path.write_text("{")
    else:
        model(agent).set_enforcement(Enforcement.PERMISSIVE)
        model(agent).create("stranger", None)
        model(agent).set_enforcement(Enforcement.ENFORCING)
    assert status(agent).able
    assert not status(agent).sound


@pytest.mark.parametrize("enforcement", [Enforcement.NONE, Enforcement.PERMISSIVE])
def test_status_of_a_host_that_cannot_enforce(tmp_path: Path, enforcement: Enforcement) -> None:
    agent = host(tmp_path)
    model(agent).set_enforcement(enforcement)
    assert not status(agent).able
    assert not status(agent).sound


def test_recovery_closes_a_window_that_nobody_recorded(tmp_path: Path) -> None:
    agent = host(tmp_path)
    model(agent).set_booleans(agent.manifest.window_values(LabelName("market-data")))
    with agent.lock.hold(1):
        done = recover(agent)
    assert (done.window.open, done.window.label, done.nothing) == (True, "market-data", False)
    assert_sound(agent)
    with agent.lock.hold(1):
        assert recover(agent).nothing


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 1}', '{"format": 2}', "[" * 100_000])
def test_a_damaged_journal_closes_the_window_and_stops_everything(
    tmp_path: Path, content: str
) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    model(agent).set_booleans(agent.manifest.window_values(LabelName("market-data")))
    agent.journal.path.write_text(content)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "market"))
    assert caught.value.id == "journal.corrupt"
    assert not window(agent).open
    assert guests(agent) == {"a-db": "bank-a-db"}
    agent.journal.path.unlink()
    assert launch(agent, config(tmp_path, "market")).domid is not None


def test_a_journal_that_is_no_file_is_damaged_and_never_waited_for(tmp_path: Path) -> None:
    agent = host(tmp_path)
    agent.state.mkdir(exist_ok=True)
    for make in (os.mkfifo, os.mkdir):
        make(agent.journal.path)
        with pytest.raises(Unavailable) as caught:
            launch(agent, config(tmp_path, "market"))
        assert caught.value.id == "journal.corrupt"
        assert not status(agent).sound
        agent.journal.path.rename(tmp_path / make.__name__)


def test_a_journal_of_another_boot_destroys_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    monkeypatch.setattr("shype.host.journal.boot_id", lambda: "an earlier boot")
    record = reservation("a-db", "", LabelName("bank-a-db"), context("l_bank_a_db_t"), (0,))
    monkeypatch.undo()
    agent.journal.reserve(record)
    with agent.lock.hold(1):
        assert recover(agent).destroyed == ()
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)


@pytest.mark.parametrize("why", ["dying", "suspended", "foreign"])
def test_what_is_over_goes_nowhere(tmp_path: Path, why: str) -> None:
    """Neither into a file nor to a host: one that goes somewhere already is suspended."""
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    if why == "dying":
        model(agent).exit(1, zombie=True)
    elif why == "suspended":
        model(agent)._change(1, ended=Ending.SUSPEND)
    else:
        model(agent)._change(1, context=UNLABELLED)
    for leave in (lambda: save(agent, "a-db", tmp_path / "a.img"),
                  lambda: migrate(agent, "a-db", "host2", ("false",))):
        with pytest.raises(Unavailable) as caught:
            leave()
        assert caught.value.id == "vm.over"
    assert not (tmp_path / "a.img").exists()


def test_a_suspended_guest_is_told_and_ends_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    monkeypatch.setattr(ModelHypervisor, "shutdown", lambda self, domid: None)  # it hears nothing
    launch(agent, config(tmp_path, "a-db"))
    model(agent)._change(1, ended=Ending.SUSPEND)
    with pytest.raises(Unavailable, match="suspended: it is being saved") as caught:
        stop(agent, "a-db", force=False, timeout=0.1)
    assert caught.value.id == "stop.timeout"
    assert "--force" in caught.value.fix
    assert stop(agent, "a-db", force=True, timeout=0).destroyed
    assert guests(agent) == {}
