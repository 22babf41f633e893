"""The watcher: it looks, waits for an ending, and looks again; what was refused meanwhile is on
record before the hypervisor's ring forgets it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import ShypeError, Unavailable
from shype.decision.operation import Operation
from shype.host import watch as watching
from shype.host.agent import Agent
from shype.host.attestation.losses import Loss
from shype.host.audit.collect import collect
from shype.host.audit.reader import records
from shype.host.drivers.model import ModelHypervisor
from shype.host.drivers.model_state import RING
from shype.host.ended import Followed
from shype.host.hypervisor import Ending
from shype.host.launch import launch
from shype.host.watch import AGAIN, LOOK, watch
from shype.policy.model import Enforcement
from tests.host.audit.builders import FullDisk
from tests.host.builders import config, host, model
from tests.host.invariants import assert_sound, guests


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the watcher wanted to wait, each time; it does not, nor glances in between."""
    wanted = list[float]()
    monkeypatch.setattr(watching, "GLANCE", 10 * LOOK)

    @contextlib.contextmanager
    def endings(self: ModelHypervisor) -> Iterator[Callable[[float], bool]]:
        def wait(seconds: float) -> bool:
            wanted.append(seconds)
            return True

        yield wait

    monkeypatch.setattr(ModelHypervisor, "endings", endings)
    return wanted


def looks(agent: Agent, times: int) -> list[Followed | Loss | ShypeError]:
    """What it tells in so many looks."""
    told = list[Followed | Loss | ShypeError]()
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GLANCE", 0.001)
    monkeypatch.setattr(watching, "BUSY", 0.001)


def kept(agent: Agent, *kinds: str) -> list[dict[str, Any]]:
    return [dict(r.body) for r in records(agent.trail.directory) if r.body["kind"] in kinds]


def two(directory: Path) -> Agent:
    agent = host(directory)
    for vm in ("a-db", "market"):
        assert launch(agent, config(directory, vm)).domid is not None
    return agent


def test_denials_are_recorded_though_no_command_is_given_and_the_ring_wraps(
    tmp_path: Path, quick: None
) -> None:
    agent = two(tmp_path)
    rounds = iter(range(20))

    def go_on() -> bool:
        number = next(rounds, None)
        for _ in range(RING // 10 if number is not None else 0):
            model(agent).attempt(1, 2, Operation.EVENT_SEND)
        return number is not None

    watch(agent, lambda _: None, go_on=go_on)
    waiting = collect(agent).waiting  # and the last one, too
    assert kept(agent, "denial.gap", "denial.more") == []
    # Alike ones are merged while they wait for a record: none is lost.
    told = sum(r["details"]["times"] for r in kept(agent, "denial"))
    assert told + waiting == 2 * RING


def test_a_look_without_news_writes_nothing(tmp_path: Path, quick: None) -> None:
    agent = two(tmp_path)
    rounds = iter([True] * 50)
    watch(agent, lambda _: None, go_on=lambda: next(rounds, False))
    before = agent.trail.path.read_bytes()
    file = agent.trail.directory / "collected.json"
    at = file.stat().st_mtime_ns
    rounds = iter([True] * 50)
    watch(agent, lambda _: None, go_on=lambda: next(rounds, False))
    assert agent.trail.path.read_bytes() == before
    assert file.stat().st_mtime_ns == at


def test_an_ending_is_still_followed_at_once(tmp_path: Path, quick: None) -> None:
    agent = two(tmp_path)
    heard: list[Followed | Loss | ShypeError] = []
    turns = 0

    def go_on() -> bool:
        nonlocal turns
        turns += 1
        if turns == 3:
            model(agent).end(1, Ending.REBOOT)
        return turns < 2000 and not heard

    watch(agent, heard.append, go_on=go_on)
    followed, = heard
    assert isinstance(followed, Followed)
    assert (followed.vm, followed.domid) == ("a-db", 3)


def test_a_trail_without_room_is_told_and_not_ten_times_a_second(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    heard: list[Followed | Loss | ShypeError] = []
    disk = FullDisk(monkeypatch, agent.trail)
    model(agent).attempt(1, 2, Operation.EVENT_SEND)
    rounds = iter([True] * 100)
    watch(agent, heard.append, go_on=lambda: next(rounds, False))
    assert [error.id for error in heard if isinstance(error, ShypeError)] == ["audit.unwritable"]
    disk.full = False
    watch(agent, heard.append, go_on=lambda: False)
    assert [r["details"]["times"] for r in kept(agent, "denial")] == [1]
