"""Guests that end: what follows, and the wall meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host import ended
from shype.host.agent import Agent
from shype.host.control import pause, reboot, unpause
from shype.host.drivers.model import ModelHypervisor
from shype.host.ended import LATELY, MOST
from shype.host.hypervisor import CreateFailed, Ending
from shype.host.kept import clock
from shype.host.launch import catch_up, launch
from shype.host.recovery import recover
from shype.host.stop import stop
from tests.host.builders import config, context, host, model
from tests.host.invariants import assert_sound, guests

RESTARTS = 'on_crash = "restart"\non_poweroff = "restart"\non_watchdog = "coredump-restart"'


def follow(agent: Agent) -> tuple[ended.Followed, ...]:
    with agent.lock.hold(1):
        return catch_up(agent)[1]


def domids(agent: Agent) -> dict[str, int]:
    return {d.name: d.domid for d in agent.hypervisor.domains() if d.domid}


def start(agent: Agent, directory: Path, vm: str, extra: str = "") -> int:
    outcome = launch(agent, config(directory, vm, extra))
    assert outcome.domid is not None
    return outcome.domid


@pytest.mark.parametrize(("extra", "ending", "again"), [
    ("", Ending.POWEROFF, False), ("", Ending.REBOOT, True), ("", Ending.CRASH, False),
    ("", Ending.WATCHDOG, False), ("", Ending.SOFT_RESET, True),
    ('on_reboot = "destroy"', Ending.REBOOT, False),
    (RESTARTS, Ending.POWEROFF, True), (RESTARTS, Ending.CRASH, True),
    (RESTARTS, Ending.WATCHDOG, True), ('on_crash = "rename-restart"', Ending.CRASH, True),
    ('on_crash = "coredump-destroy"', Ending.CRASH, False),
])
def test_what_follows_an_ending(
    tmp_path: Path, extra: str, ending: Ending, again: bool
) -> None:
    agent = host(tmp_path)
    old = start(agent, tmp_path, "a-db", extra)
    model(agent).end(old, ending)
    # its memory is still there, or its boolean still on: no place is free before all is done
    with pytest.raises(CreateFailed):
        model(agent).create("b-db", context("l_bank_b_db_t"))
    assert agent.hypervisor.boolean("run_bank_a") is True
    follow(agent)
    assert_sound(agent)
    assert guests(agent) == ({"a-db": "bank-a-db"} if again else {})
    assert [kept.vm for kept in agent.kept.all()] == (["a-db"] if again else [])
    if again:
        assert domids(agent)["a-db"] > old
        assert launch(agent, config(tmp_path, "b-db")).decision.id == "wall.conflict"
    else:
        assert launch(agent, config(tmp_path, "b-db")).domid is not None


def test_a_dump_is_made_before_the_guest_is_gone(tmp_path: Path) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db", RESTARTS)
    model(agent).end(domid, Ending.WATCHDOG)
    follow(agent)
    dump, = (agent.state / "dumps").iterdir()
    assert dump.read_text() == f"memory of domain {domid}\n"
    assert dump.parent.stat().st_mode & 0o777 == 0o700


def test_a_crashed_guest_that_is_to_be_looked_at_keeps_its_place(tmp_path: Path) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db", 'on_crash = "preserve"')
    model(agent).end(domid, Ending.CRASH)
    assert follow(agent) == ()
    assert launch(agent, config(tmp_path, "b-db")).decision.id == "wall.conflict"
    assert stop(agent, "a-db", force=False, timeout=1).released == ("run_bank_a",)
    assert_sound(agent)
    assert agent.kept.all() == ()


def test_a_guest_that_is_being_saved_has_not_ended(tmp_path: Path) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    model(agent)._change(domid, ended=Ending.SUSPEND)
    assert follow(agent) == ()
    assert domids(agent) == {"a-db": domid}


def test_a_new_name_changes_no_label_and_no_wall(tmp_path: Path) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    model(agent).rename(domid, "b-db")  # whose label is on the other side
    follow(agent)
    assert guests(agent) == {"b-db": "bank-a-db"}
    outcome = launch(agent, config(tmp_path, "b-desk"))
    assert [h.vm for h in outcome.decision.holders] == ["b-db"]
    model(agent).end(domid, Ending.REBOOT)
    follow(agent)
    assert guests(agent) == {"a-db": "bank-a-db"}  # what it was started as
    assert_sound(agent)


def test_its_place_is_taken_while_it_has_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(ended, "clock", lambda: now)
    agent = host(tmp_path)
    start(agent, tmp_path, "a-db")
    for _ in range(MOST):
        model(agent).end(domids(agent)["a-db"], Ending.REBOOT)
        follow(agent)
        assert guests(agent) == {"a-db": "bank-a-db"}
        now += 1
    model(agent).end(domids(agent)["a-db"], Ending.REBOOT)
    assert [f.domid for f in follow(agent)] == [None]  # too often: it waits, and holds nothing
    assert guests(agent) == {}
    assert_sound(agent)
    now += LATELY / 2
    assert follow(agent) == ()
    other = start(agent, tmp_path, "b-db")
    now += LATELY
    refused, = follow(agent)
    assert refused.decision is not None
    assert refused.decision.id == "wall.conflict"
    assert [kept.refused for kept in agent.kept.all() if kept.vm == "a-db"] == ["wall.conflict"]
    assert follow(agent) == ()  # tried again only by hand
    assert reboot(agent, "a-db", force=False, timeout=1).decision == refused.decision
    stop(agent, str(other), force=True, timeout=0)
    assert reboot(agent, "a-db", force=False, timeout=1).domid == domids(agent)["a-db"]
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert_sound(agent)


def test_a_vm_that_waits_can_be_stopped_or_started_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    for act in (lambda: stop(agent, "a-db", force=False, timeout=1),
                lambda: launch(agent, tmp_path / "a-db.cfg")):
        domid = start(agent, tmp_path, "a-db")
        kept = agent.kept.all()[0]
        many = tuple(clock() for _ in range(MOST))
        agent.kept.put(replace(kept, starts=many))
        model(agent).end(domid, Ending.REBOOT)
        follow(agent)
        assert guests(agent) == {}
        assert agent.kept.all()[0].again
        act()
        assert [k.again for k in agent.kept.all()] in ([], [False])
    assert list(guests(agent)) == ["a-db"]
    assert len(agent.kept.all()) == 1


def test_stop_wins_over_restart(tmp_path: Path) -> None:
    agent = host(tmp_path)
    start(agent, tmp_path, "a-db", RESTARTS)
    done = stop(agent, "a-db", force=False, timeout=5)
    assert (done.destroyed, done.released) == (False, ("run_bank_a",))
    assert guests(agent) == {}
    assert agent.kept.all() == ()


def test_a_guest_that_outlives_its_stop_may_reboot_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    with monkeypatch.context() as deaf:
        deaf.setattr(ModelHypervisor, "shutdown", lambda self, domid: None)
        with pytest.raises(Unavailable):
            stop(agent, "a-db", force=False, timeout=0.1)
    model(agent).end(domid, Ending.REBOOT)
    follow(agent)
    assert guests(agent) == {"a-db": "bank-a-db"}


@pytest.mark.parametrize("force", [True, False])
def test_reboot_gives_the_vm_a_new_domain(tmp_path: Path, force: bool) -> None:
    agent = host(tmp_path)
    old = start(agent, tmp_path, "a-db", 'on_reboot = "destroy"' if force else "")
    done = reboot(agent, "a-db", force=force, timeout=5)
    assert done.domid == domids(agent)["a-db"] != old
    assert_sound(agent)


def test_reboot_says_why_it_does_not_run_again(tmp_path: Path) -> None:
    agent = host(tmp_path)
    start(agent, tmp_path, "a-db", 'on_reboot = "destroy"')
    with pytest.raises(Unavailable, match="does not ask for it") as caught:
        reboot(agent, "a-db", force=False, timeout=5)
    assert caught.value.id == "reboot.ended"
    assert_sound(agent)


def test_a_deaf_guest_does_not_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    monkeypatch.setattr(ModelHypervisor, "shutdown", lambda self, domid, reboot: None)
    with pytest.raises(Unavailable) as caught:
        reboot(agent, "a-db", force=False, timeout=0.1)
    assert caught.value.id == "reboot.timeout"
    assert domids(agent) == {"a-db": domid}


def test_a_vm_that_shype_did_not_start_is_not_rebooted(tmp_path: Path) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    agent.kept.forget(agent.kept.all()[0].uuid)
    with pytest.raises(Unavailable) as caught:
        reboot(agent, "a-db", force=True, timeout=0)
    assert caught.value.id == "reboot.not-kept"
    model(agent).end(domid, Ending.REBOOT)
    follow(agent)  # nobody knows how to start it again: only its place is released
    assert guests(agent) == {}
    assert_sound(agent)


def test_a_start_that_fails_is_told_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    model(agent).end(domid, Ending.REBOOT)

    def broken(self: ModelHypervisor, path: Path) -> None:
        raise CreateFailed("xl: no memory")

    with monkeypatch.context() as low:
        low.setattr(ModelHypervisor, "create_paused", broken)
        failed, = follow(agent)
        assert failed.error is not None
        assert failed.error.id == "create.failed"
        assert follow(agent) == ()
    assert_sound(agent)
    assert agent.kept.all()[0].refused == "create.failed"
    assert launch(agent, config(tmp_path, "b-db")).domid is not None


def test_killed_between_the_end_and_the_new_start_no_vm_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    model(agent).end(domid, Ending.REBOOT)

    def die(self: ModelHypervisor, path: Path) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(ModelHypervisor, "read_config", die)
        with pytest.raises(Killed):
            follow(agent)
    assert guests(agent) == {}
    assert follow(agent)[0].domid == domids(agent)["a-db"]
    assert_sound(agent)


def test_recovery_alone_starts_nothing(tmp_path: Path) -> None:
    """The guardian recovers after a kill, and must not start VMs."""
    agent = host(tmp_path)
    domid = start(agent, tmp_path, "a-db")
    model(agent).end(domid, Ending.REBOOT)
    with agent.lock.hold(1):
        recover(agent)
    assert domids(agent) == {"a-db": domid}
    assert agent.hypervisor.boolean("run_bank_a") is True


def test_a_paused_vm_keeps_label_and_wall(tmp_path: Path) -> None:
    agent = host(tmp_path)
    start(agent, tmp_path, "a-db")
    assert pause(agent, "a-db").name == "a-db"
    assert launch(agent, config(tmp_path, "b-db")).decision.id == "wall.conflict"
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert [d.paused for d in agent.hypervisor.domains() if d.domid] == [True]
    unpause(agent, "a-db")
    assert_sound(agent)
