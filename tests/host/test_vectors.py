"""Configuration vectors on a host: who starts, who may switch, and what is found."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host import vectors
from shype.host.agent import Agent
from shype.host.hypervisor import CreateFailed
from shype.host.launch import Source, catch_up, launch
from shype.host.recovery import recover
from shype.host.status import status
from shype.host.stop import stop
from shype.policy.ed25519 import KeyId
from shype.policy.names import VectorName
from shype.policy.vector_order import Order, give
from tests.host.builders import config, host

PLANT = """\
shype: 1
policy: {name: plant, version: "1.0"}
coalitions: [control, office]
labels:
  manager:  {coalitions: all}
  plc:      {coalitions: [control]}
  desk:     {coalitions: [office]}
  engineer: {coalitions: [control]}
host: {dom0: manager}
vms: {plc-1: plc, desk-1: desk, engineer-1: engineer}
static: true
vectors:
  normal: [plc, desk]
  maintenance: [plc, engineer]
  nothing: []
"""
HERE = "xen1"
KEYS = (KeyId("0" * 64),)


def order(to: str, seconds: int = 60, *hosts: str) -> Order:
    """An order of this moment."""
    return give("plant", "1.0", VectorName(to), hosts, seconds)


def switch(agent: Agent, to: Order) -> vectors.Switch:
    """As the command does it."""
    with agent.lock.hold(1):
        catch_up(agent)
        return vectors.switch(agent, to, KEYS, hostname=HERE)


def start(agent: Agent, tmp_path: Path, vm: str) -> tuple[bool, str]:
    """Whether it was started, and the decision."""
    outcome = launch(agent, config(tmp_path, vm))
    assert outcome.source is Source.AGENT
    return outcome.domid is not None, str(outcome.decision.id)


def test_only_labels_of_the_vector_in_force_start(tmp_path: Path) -> None:
    agent = host(tmp_path, PLANT)
    assert vectors.in_force(agent) == "normal", "the first, at boot"
    assert start(agent, tmp_path, "plc-1") == (True, "wall.free")
    assert start(agent, tmp_path, "engineer-1") == (False, "vector.absent")
    assert switch(agent, order("maintenance", 60, "xen0", HERE)).refusal is None
    assert vectors.in_force(agent) == "maintenance"
    assert start(agent, tmp_path, "engineer-1") == (True, "wall.free")
    assert start(agent, tmp_path, "desk-1") == (False, "vector.absent")
    with agent.lock.hold(1):
        recover(agent)
    assert vectors.in_force(agent) == "maintenance", "recovery keeps the vector"
    assert ("vector", True, "maintenance, as ordered") in [
        (point.name, point.holds, point.said) for point in status(agent).points]


def test_the_hypervisor_itself_refuses_a_label_of_another_vector(tmp_path: Path) -> None:
    agent = host(tmp_path, PLANT)
    agent.hypervisor.set_booleans(agent.manifest.window_values(agent.policy.guests[2].name))
    entry = agent.manifest.labels[agent.policy.guests[2].name]
    (tmp_path / "x.cfg").write_text(f'name = "x"\nseclabel = "{entry.context}"\n')
    with pytest.raises(CreateFailed):
        agent.hypervisor.create_paused(tmp_path / "x.cfg")


def test_what_the_new_vector_does_not_have_is_stopped_first(tmp_path: Path) -> None:
    agent = host(tmp_path, PLANT)
    for vm in ("plc-1", "desk-1"):
        start(agent, tmp_path, vm)
    given = order("maintenance")
    refusal = switch(agent, given).refusal
    assert refusal is not None
    assert (refusal.permitted, refusal.id) == (False, "vector.residents")
    assert "desk-1 (domain 2, desk) runs" in refusal.sentence
    assert "plc-1" not in refusal.sentence
    assert vectors.in_force(agent) == "normal"
    stop(agent, "desk-1", force=True, timeout=0)
    assert switch(agent, given).refusal is None, "a refused order is not used up"


def test_an_order_is_good_once(tmp_path: Path) -> None:
    agent = host(tmp_path, PLANT)
    first, second = order("maintenance"), order("normal")
    switch(agent, second)
    for used in (first, second, replace(second, expires=second.expires + 1)):
        with pytest.raises(BadInput) as caught:
            switch(agent, used)
        assert caught.value.id == "order.used"
    assert vectors.in_force(agent) == "normal"


@pytest.mark.parametrize(("change", "id"), [
    ({"policy": "plants"}, "order.other-policy"), ({"version": "1.1"}, "order.other-policy"),
    ({"vector": "service"}, "order.vector"), ({"hosts": ("xen2",)}, "order.other-host"),
    ({"expires": int(time.time()) - 1}, "order.expired"),
])
def test_an_order_for_something_else_is_not_followed(
    tmp_path: Path, change: dict[str, object], id: str
) -> None:
    agent = host(tmp_path, PLANT)
    with pytest.raises(BadInput) as caught:
        switch(agent, replace(order("maintenance"), **change))  # type: ignore[arg-type]
    assert caught.value.id == id
    assert vectors.in_force(agent) == "normal"


def test_a_policy_without_vectors_has_nothing_to_switch(tmp_path: Path) -> None:
    agent = host(tmp_path)
    assert vectors.in_force(agent) is None
    with pytest.raises(BadInput) as caught:
        switch(agent, order("normal"))
    assert caught.value.id == "vector.none"


@pytest.mark.parametrize("bits", [{"vec_b0": True}, {"vec_b0": True, "vec_b1": True}])
def test_bits_that_nobody_ordered_are_found_and_nothing_starts(
    tmp_path: Path, bits: dict[str, bool]
) -> None:
    agent = host(tmp_path, PLANT)
    agent.hypervisor.set_booleans(bits)
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "plc-1"))
    assert caught.value.id == "vector.unordered"
    now = status(agent)
    assert [p.wrong for p in now.points if p.name == "vector"] == [True]
    assert not now.sound
    assert switch(agent, order("normal")).refusal is None, "a new order repairs it"
    assert start(agent, tmp_path, "plc-1")[0]


def test_an_order_ends_with_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = host(tmp_path, PLANT)
    switch(agent, order("maintenance"))
    monkeypatch.setattr(vectors, "boot_id", lambda: "another")
    assert vectors.ordered(agent) == "normal"
    with pytest.raises(Unavailable, match="behind shype's back"):
        vectors.in_force(agent)  # a hypervisor that kept its booleans has not booted
    agent.hypervisor.set_booleans(dict.fromkeys(agent.manifest.booleans.vectors, False))
    assert vectors.in_force(agent) == "normal"


def test_a_switch_killed_before_the_hypervisor_is_told_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path, PLANT)
    with monkeypatch.context() as killed:
        def die(values: object) -> None:
            raise KeyboardInterrupt
        killed.setattr(agent.hypervisor, "set_booleans", die)
        with pytest.raises(KeyboardInterrupt):
            switch(agent, order("maintenance"))
    with pytest.raises(Unavailable) as caught:
        vectors.in_force(agent)
    assert caught.value.id == "vector.unordered"
    assert switch(agent, order("maintenance")).refusal is None


def test_a_damaged_record_stops_launches(tmp_path: Path) -> None:
    agent = host(tmp_path, PLANT)
    switch(agent, order("maintenance"))
    (agent.state / "vector.json").write_bytes(b"{}")
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "plc-1"))
    assert caught.value.id == "vector.corrupt"
