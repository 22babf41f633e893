"""Migration between two modelled hosts, each with an agent and a policy of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.drivers.config import new_uuid
from shype.host.hypervisor import Ending
from shype.host.image import dumps
from shype.host.launch import catch_up, launch
from shype.host.migration import Migrated, migrate
from shype.host.receiving import Announcement, incoming, receive
from shype.host.stop import stop
from shype.policy.model import Enforcement
from tests.host.builders import BANKS, config, context, host, model
from tests.host.invariants import assert_sound, guests
from tests.host.test_kill import until_sound

#: What ssh would run on the other host: `shype receive` there, without its command line.
RECEIVER = """\
import json, os, signal, sys
from pathlib import Path
from shype.base.errors import ShypeError
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.receiving import Announcement, answer, receive
from shype.policy.manifest import load_bundle

directory, how, words = Path(sys.argv[1]), sys.argv[2], sys.argv[4]
bundle = load_bundle(directory / "bundle")
agent = Agent(bundle, ModelHypervisor(bundle, directory / "model.json"), directory / "state")
if how == "deaf":
    def unpause(self, domid):
        raise ShypeError("xl.failed", "it does not start")
    ModelHypervisor.unpause = unpause
try:
    if words.endswith("--query"):
        said = {"verdict": "permit"} if how == "liar" else answer(
            agent, Announcement.loads(sys.stdin.buffer.read())).to_json()
        print(json.dumps(said))
        sys.exit(0)
    outcome = receive(agent, 0, 1, "host1", observer=lambda step: step == how
                      and os.kill(os.getpid(), signal.SIGKILL))
    if outcome.domid is None:
        sys.exit(outcome.decision.sentence)
except ShypeError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Agent, Agent]:
    """The sender, on which a-db runs, and the receiver."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(host(tmp_path / name))
    launch(made[0], config(tmp_path, "a-db"))
    return made[0], made[1]


def move(one: Agent, two: Agent, how: str = "") -> Migrated:
    ssh = (sys.executable, "-c", RECEIVER, str(two.state.parent), how)
    return migrate(one, "a-db", "host2", ssh)


def stays(one: Agent, two: Agent) -> None:
    """It goes on where it was, and only there."""
    assert guests(one) == {"a-db": "bank-a-db"}
    assert_sound(one)
    # what a killed receiver has half made does not run, and is gone once its guardian has been
    assert all(d.paused for d in two.hypervisor.domains() if d.name == "a-db")
    until_sound(two)
    assert "a-db" not in guests(two)


def test_a_vm_moves_and_so_does_its_place_in_the_wall(
    tmp_path: Path, hosts: tuple[Agent, Agent]
) -> None:
    one, two = hosts
    done = move(one, two)
    assert (done.label, done.refusal, done.released) == ("bank-a-db", None, ("run_bank_a",))
    assert guests(one) == {}
    assert guests(two) == {"a-db": "bank-a-db"}
    assert_sound(one)
    assert_sound(two)
    assert one.kept.all() == ()
    assert incoming(two).all() == ()
    assert launch(one, config(tmp_path, "b-db")).domid is not None
    assert launch(two, config(tmp_path, "b-db")).decision.id == "wall.conflict"
    # its configuration came with it
    domid = next(d.domid for d in two.hypervisor.domains() if d.name == "a-db")
    model(two).end(domid, Ending.REBOOT)
    with two.lock.hold(1):
        catch_up(two)
    assert guests(two) == {"a-db": "bank-a-db"}
    assert_sound(two)


@pytest.mark.parametrize("how", ["", "liar"])
def test_the_receivers_wall_is_taken(
    tmp_path: Path, hosts: tuple[Agent, Agent], how: str
) -> None:
    """It says so when asked; and it says so again to who sends all the same."""
    one, two = hosts
    launch(two, config(tmp_path, "b-db"))
    if how:
        with pytest.raises(Unavailable, match="bank-a-db may not start") as caught:
            move(one, two, how)
        assert caught.value.id == "migrate.failed"
    else:
        done = move(one, two)
        assert done.refusal is not None
        assert done.refusal[0] == "wall.conflict"
    assert guests(two) == {"b-db": "bank-b-db"}
    stays(one, two)


def test_both_sides_record_what_the_receiver_answers(
    tmp_path: Path, hosts: tuple[Agent, Agent]
) -> None:
    one, two = hosts
    launch(two, config(tmp_path, "b-db"))
    move(one, two)
    stop(two, "b-db", force=True, timeout=0)
    move(one, two)
    asked = [r for r in records(two) if r["kind"] == "receive.ask"]
    assert [(r["result"], r["rule"], r["vm"], r["subject"], r["object"]) for r in asked] == [
        ("refused", "wall.conflict", "a-db", "bank-a-db", "host:unknown"),
        ("permitted", "wall.free", "a-db", "bank-a-db", "host:unknown")]
    assert "bank-a-db may not start" in str(asked[0]["sentence"])
    sent = [r for r in records(one) if r["kind"] == "vm.migrate"]
    assert [(r["result"], r.get("error")) for r in sent] == [
        ("refused", "wall.conflict"), ("permitted", None), ("done", None)]
    assert "bank-a-db may not start" in str(sent[0]["message"])


def records(agent: Agent) -> list[dict[str, object]]:
    """The audit trail."""
    return [json.loads(line) for line in (agent.state / "audit" / "audit.jsonl").open()]


@pytest.mark.parametrize("how", ["", "liar"])
def test_a_receiver_that_labels_it_otherwise(
    tmp_path: Path, hosts: tuple[Agent, Agent], how: str
) -> None:
    one = hosts[0]
    (tmp_path / "three").mkdir()
    two = host(tmp_path / "three", BANKS.replace("a-db: bank-a-db", "a-db: market-data"))
    if how:
        with pytest.raises(Unavailable, match="its label on this host is market-data"):
            move(one, two, how)
    else:
        done = move(one, two)
        assert done.refusal is not None
        assert done.refusal[0] == "image.mismatch"
    stays(one, two)


@pytest.mark.parametrize("enforcement", [Enforcement.PERMISSIVE, Enforcement.NONE])
@pytest.mark.parametrize("side", [0, 1])
def test_both_hosts_must_enforce(
    hosts: tuple[Agent, Agent], enforcement: Enforcement, side: int
) -> None:
    one, two = hosts
    model(hosts[side]).set_enforcement(enforcement)
    with pytest.raises(ShypeError) as caught:
        move(one, two)
    if side:
        assert caught.value.id == "migrate.no-answer"
        with pytest.raises(ShypeError):
            move(one, two, "liar")
    else:
        assert caught.value.id.startswith("host.")
    model(hosts[side]).set_enforcement(Enforcement.ENFORCING)
    stays(one, two)


@pytest.mark.parametrize("how", ["opened", "created", "verified", "kept"])
def test_a_receiver_killed_before_it_has_the_vm(hosts: tuple[Agent, Agent], how: str) -> None:
    one, two = hosts
    with pytest.raises(Unavailable) as caught:
        move(one, two, how)
    assert caught.value.id == "migrate.failed"
    stays(one, two)
    assert move(one, two).refusal is None


def test_a_receiver_that_cannot_start_it_gives_it_back(hosts: tuple[Agent, Agent]) -> None:
    one, two = hosts
    with pytest.raises(Unavailable, match="problems at target") as caught:
        move(one, two, "deaf")
    assert caught.value.id == "migrate.failed"
    stays(one, two)


def test_killed_when_it_had_been_given_away(
    hosts: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender cannot know: it keeps the VM, suspended, and its place."""
    one, two = hosts
    with pytest.raises(Unavailable) as caught:
        move(one, two, "unpaused")
    assert caught.value.id == "migrate.unsettled"
    assert guests(one) == {"a-db--migratedaway": "bank-a-db"}
    assert one.hypervisor.boolean("run_bank_a") is True
    until_sound(two)
    assert guests(two) == {}


@pytest.mark.parametrize("after", ["nothing", "head", "memory"])
def test_a_sender_that_falls_silent_does_not_hold_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """A cable that is cut says nothing: who receives would keep the launch lock for ever."""
    monkeypatch.setattr("shype.host.receiving._PATIENCE", 0.5)
    agent = host(tmp_path)
    label = context("l_bank_a_db_t")
    create = {"name": "a-db", "uuid": new_uuid(), "ssid_label": label}
    head = dumps({"c_info": create, "b_info": {}})
    sent = {"nothing": b"", "head": head[:50], "memory": head + f"memory of {label}\n".encode()}
    (hear, to_hear), (told, tell) = os.pipe(), os.pipe()
    os.write(to_hear, sent[after])  # and the pipe stays open
    with pytest.raises(Unavailable) as caught:
        receive(agent, hear, tell, "host1")
    assert caught.value.id == "receive.broken-off"
    assert guests(agent) == {}
    assert_sound(agent)
    assert launch(agent, config(tmp_path, "b-db")).domid is not None
    for end in (hear, to_hear, told, tell):
        os.close(end)


def test_no_connection(hosts: tuple[Agent, Agent]) -> None:
    one, two = hosts
    with pytest.raises(Unavailable) as caught:
        migrate(one, "a-db", "host2", ("false",))
    assert caught.value.id == "migrate.no-answer"
    stays(one, two)


def test_an_announcement_is_read_as_it_was_written() -> None:
    one = Announcement("a", "U".lower(), "l", b"x\xff\n", {"on_reboot": "restart"})
    assert Announcement.loads(one.dumps()) == one


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 9999, b'{"vm": 3}'])
def test_other_announcements_are_errors(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        Announcement.loads(data)
    assert caught.value.id == "receive.announcement"
