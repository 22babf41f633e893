"""The watcher: it looks, waits for an ending, and looks again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.base.errors import ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.ended import Followed
from shype.host.hypervisor import Ending
from shype.host.launch import launch
from shype.host.watch import AGAIN, LOOK, watch
from shype.policy.model import Enforcement
from tests.host.builders import config, host, model
from tests.host.invariants import assert_sound, guests


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the watcher wanted to wait, each time; it does not."""
    wanted = list[float]()

    @contextlib.contextmanager
    def endings(self: ModelHypervisor) -> Iterator[Callable[[float], None]]:
        yield wanted.append

    monkeypatch.setattr(ModelHypervisor, "endings", endings)
    return wanted


def looks(agent: Agent, times: int) -> list[Followed | ShypeError]:
    """What it tells in so many looks."""
    told = list[Followed | ShypeError]()
    turns = iter([True] * (times - 1) + [False])
    watch(agent, told.append, go_on=lambda: next(turns))
    return told


def test_one_look_waits_for_nothing(tmp_path: Path, waits: list[float]) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    model(agent).end(1, Ending.REBOOT)
    told, = looks(agent, 1)
    assert isinstance(told, Followed)
    assert (told.vm, told.domid) == ("a-db", 2)
    assert waits == []
    assert_sound(agent)


def test_between_two_looks_it_waits_for_an_ending(tmp_path: Path, waits: list[float]) -> None:
    agent = host(tmp_path)
    assert looks(agent, 3) == []
    assert waits == [LOOK, LOOK]


def test_a_vm_that_has_to_wait_is_looked_for_in_time(tmp_path: Path, waits: list[float]) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    for domid in range(1, 5):
        model(agent).end(domid, Ending.REBOOT)
        looks(agent, 1)
    assert guests(agent) == {}
    kept, = agent.kept.all()
    agent.kept.change(kept, not_before=kept.not_before - 50)
    looks(agent, 2)
    assert 0 <= waits[0] <= 10


def test_what_goes_wrong_is_told_and_tried_again(tmp_path: Path, waits: list[float]) -> None:
    agent = host(tmp_path)
    model(agent).set_enforcement(Enforcement.NONE)
    told = looks(agent, 2)
    assert [getattr(item, "id", None) for item in told] == ["host.no-flask"] * 2
    assert waits == [AGAIN]


def test_another_command_that_holds_the_lock_is_no_error(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shype.host.watch.AGAIN", 0.05)
    agent = host(tmp_path)
    with agent.lock.hold(1):
        assert looks(agent, 2) == []
    assert waits == [0.05]


def test_one_watcher_for_a_host(tmp_path: Path, waits: list[float]) -> None:
    agent = host(tmp_path)

    def second() -> bool:
        with pytest.raises(Unavailable) as caught:
            looks(agent, 1)
        assert caught.value.id == "watch.running"
        return False

    watch(agent, lambda what: None, go_on=second)
    assert waits == []
