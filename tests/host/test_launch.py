"""The launch state machine on the model: outcomes, failures, and what is left afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host import journal as journal_module
from shype.host import launch as launch_module
from shype.host.agent import Agent
from shype.host.census import window
from shype.host.drivers.model import UNLABELLED, ModelHypervisor
from shype.host.hypervisor import CreateFailed
from shype.host.launch import LaunchFailed, Source, Step, launch
from shype.host.recovery import recover
from shype.policy.manifest import Bundle
from shype.policy.model import Enforcement
from shype.policy.names import LabelName
from tests.host.builders import BANKS, bundle, config, context, host, model
from tests.host.invariants import assert_sound, guests


def test_launch_reports_every_step_in_order_and_leaves_the_host_sound(tmp_path: Path) -> None:
    agent, steps = host(tmp_path), list[Step]()
    outcome = launch(agent, config(tmp_path, "a-db"), observer=steps.append)
    assert (outcome.domid, outcome.label, outcome.decision.id) == (1, "bank-a-db", "wall.free")
    assert steps == list(Step)
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert agent.hypervisor.boolean("run_bank_a") is True
    assert_sound(agent)


def test_window_is_open_for_exactly_this_label_and_only_while_building(tmp_path: Path) -> None:
    agent, seen = host(tmp_path), dict[Step, LabelName | None]()

    def watch(step: Step) -> None:
        now = window(agent)
        seen[step] = now.label if now.open else None
        assert now.open == (step in (Step.OPENED, Step.CREATED))
        if step is Step.OPENED:  # the wall stands before the domain exists
            assert agent.hypervisor.boolean("run_bank_b") is True
            with pytest.raises(CreateFailed):
                model(agent).create("other", context("l_market_data_t"))

    launch(agent, config(tmp_path, "b-db"), observer=watch)
    assert seen[Step.OPENED] == "bank-b-db"


def test_the_name_of_dom0_is_taken(tmp_path: Path) -> None:
    agent = host(tmp_path)
    with pytest.raises(BadInput) as caught:
        launch(agent, config(tmp_path, "Domain-0", 'seclabel = "market-data"'))
    assert (caught.value.id, caught.value.fix) == ("vm.dom0", "give this VM another name")
    assert_sound(agent)


def test_a_configuration_that_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.cfg")
    for path in (tmp_path / "fifo.cfg", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadInput) as caught:
            launch(host(tmp_path), path)
        assert caught.value.id == "config.unreadable"


def test_wall_conflict_is_a_decision_that_names_rule_and_holder(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    outcome = launch(agent, config(tmp_path, "b-desk"))
    assert outcome.domid is None
    assert outcome.source is Source.AGENT
    assert outcome.decision.id == "wall.conflict"
    assert [(h.vm, h.domid, h.label) for h in outcome.decision.holders] == [
        ("a-db", 1, "bank-a-db")]
    assert outcome.decision.rules[0].line == 4
    assert not agent.journal.path.exists()


def test_policy_beats_configuration_with_a_notice(tmp_path: Path) -> None:
    agent = host(tmp_path)
    outcome = launch(agent, config(tmp_path, "a-db", 'seclabel = "bank-b-db"'))
    assert guests(agent) == {"a-db": "bank-a-db"}
    assert "bank-b-db" in outcome.notices[0]


def test_the_ends_of_a_domain_never_make_xl_create_it_again(tmp_path: Path) -> None:
    agent, prepared = host(tmp_path), list[str]()

    def look(step: Step) -> None:
        if step is Step.PREPARED:
            prepared.append(agent.prepared.read_text())

    launch(agent, config(tmp_path, "a-db", 'on_reboot = "restart"'), observer=look)
    assert prepared[0].rindex('on_reboot = "preserve"') > prepared[0].rindex("restart")
    for event in ("poweroff", "watchdog", "crash"):
        assert f'on_{event} = "destroy"' in prepared[0]


def test_what_is_checked_is_what_is_built(tmp_path: Path) -> None:
    agent, file = host(tmp_path), config(tmp_path, "market")

    def swap(step: Step) -> None:
        if step is Step.LABELLED:
            file.write_text('name = "a-db"\n')

    launch(agent, file, observer=swap)
    assert guests(agent) == {"market": "market-data"}


@pytest.mark.parametrize(("enforcement", "id"), [
    (Enforcement.NONE, "host.no-flask"), (Enforcement.PERMISSIVE, "host.not-enforcing"),
])
def test_a_host_that_does_not_enforce_starts_nothing(
    tmp_path: Path, enforcement: Enforcement, id: str
) -> None:
    agent = host(tmp_path)
    model(agent).set_enforcement(enforcement)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "a-db"))
    assert caught.value.id == id
    assert guests(agent) == {}


def test_another_policy_loaded_starts_nothing(tmp_path: Path) -> None:
    agent = host(tmp_path)
    assert agent.hypervisor.boolean("win_en") is False  # the old policy is loaded now
    (tmp_path / "new").mkdir()
    new = bundle(tmp_path / "new", BANKS.replace('"1.0"', '"1.1"'))
    other = Agent(new, agent.hypervisor, agent.state)
    with pytest.raises(Unavailable) as caught:
        launch(other, config(tmp_path, "a-db"))
    assert caught.value.id == "host.wrong-policy"
    assert guests(agent) == {}


def test_same_name_twice_is_refused(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    with pytest.raises(BadInput, match=r"vm\.running"):
        launch(agent, config(tmp_path, "a-db"))
    assert_sound(agent)


def test_nothing_starts_beside_a_domain_of_unknown_label(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    model(agent).set_enforcement(Enforcement.PERMISSIVE)
    stranger = model(agent).create("stranger", UNLABELLED)
    model(agent).set_enforcement(Enforcement.ENFORCING)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "market"))
    assert caught.value.id == "wall.unknown-running"
    # Beside a stranger nothing that is set is released: it might be the stranger's.
    model(agent).exit(1)
    with agent.lock.hold(1):
        recover(agent)
    assert agent.hypervisor.boolean("run_bank_a") is True
    model(agent).exit(stranger)
    assert launch(agent, config(tmp_path, "b-db")).domid is not None
    assert_sound(agent)


def test_a_dying_domain_still_holds_its_wall(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    model(agent).exit(1, zombie=True)
    assert launch(agent, config(tmp_path, "b-db")).decision.id == "wall.conflict"
    model(agent).exit(1)
    assert launch(agent, config(tmp_path, "b-db")).domid == 2


class Meddled(ModelHypervisor):
    """A host on which something else happens while xl builds."""

    def __init__(self, bundle: Bundle, file: Path, what: str) -> None:
        super().__init__(bundle, file)
        self.what = what

    def create_paused(self, path: Path) -> None:
        if self.what == "fails":
            raise CreateFailed("xl: libxl: error: no such kernel")
        if self.what == "twin":
            self.create("twin", context("l_bank_a_db_t"))
        if self.what == "nothing":
            return
        if self.what == "wall":
            super().set_booleans({"run_bank_b": True})
        if self.what == "interrupt":
            super().create_paused(path)
            raise KeyboardInterrupt
        super().create_paused(path)
        if self.what == "unpaused":
            self.unpause(max(d.domid for d in self.domains()))
        if self.what == "fails late":
            raise CreateFailed("xl: unable to add disk devices")

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        if self.what == "no window" and values.get("win_en"):
            raise Unavailable("host.flask", "cannot set the policy's booleans")
        super().set_booleans(values)


@pytest.mark.parametrize(("what", "error", "id"), [
    ("fails", CreateFailed, "create.failed"), ("fails late", CreateFailed, "create.failed"),
    ("twin", LaunchFailed, "launch.unexpected"), ("nothing", LaunchFailed, "launch.unexpected"),
    ("unpaused", LaunchFailed, "launch.unexpected"), ("no window", Unavailable, "host.flask"),
])
def test_a_failed_launch_leaves_nothing(
    tmp_path: Path, what: str, error: type[ShypeError], id: str
) -> None:
    made = bundle(tmp_path)
    agent = Agent(made, Meddled(made, tmp_path / "model.json", what), tmp_path / "state")
    with pytest.raises(error) as caught:
        launch(agent, config(tmp_path, "a-db"))
    assert caught.value.id == id
    assert guests(agent) == {}
    assert_sound(agent)


def test_an_interrupted_launch_leaves_nothing(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    agent = Agent(made, Meddled(made, tmp_path / "model.json", "interrupt"), tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        launch(agent, config(tmp_path, "a-db"))
    assert guests(agent) == {}
    assert_sound(agent)


def test_refusal_by_the_hypervisor_is_told_as_such(tmp_path: Path) -> None:
    """Someone sets the other side's boolean under the agent: the hypervisor itself refuses."""
    made = bundle(tmp_path)
    agent = Agent(made, Meddled(made, tmp_path / "model.json", "wall"), tmp_path / "state")
    outcome = launch(agent, config(tmp_path, "a-db"))
    assert outcome.source is Source.HYPERVISOR
    assert outcome.domid is None
    assert not outcome.decision.permitted
    assert_sound(agent)


@pytest.mark.parametrize("at", ["journal", "config"])
def test_a_full_disk_refuses_before_the_window_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    agent, steps = host(tmp_path), list[Step]()

    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        raise OSError(28, "No space left on device", str(path))

    module = journal_module if at == "journal" else launch_module
    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "a-db"), observer=steps.append)
    assert caught.value.id == "state.unwritable"
    assert Step.OPENED not in steps
    assert Step.RESERVED not in steps
    assert guests(agent) == {}
    monkeypatch.undo()
    assert launch(agent, config(tmp_path, "a-db")).domid == 1
    assert_sound(agent)


def test_guardian_that_cannot_start_refuses_before_the_window_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)

    def no_process() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", no_process)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "a-db"))
    assert caught.value.id == "guardian.failed"
    assert guests(agent) == {}
    assert not agent.journal.path.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"x" * (2 << 20)])
def test_odd_configurations_are_bad_input(tmp_path: Path, content: bytes) -> None:
    agent, file = host(tmp_path), tmp_path / "odd.cfg"
    file.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        launch(agent, file)
    assert caught.value.id == "config.invalid"


def test_missing_configuration_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.unreadable"):
        launch(host(tmp_path), tmp_path / "none.cfg")
