"""The bridges follow what runs; what cannot be filtered does not start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.launch import launch
from shype.host.network import mediation
from shype.host.network.ruleset import ruleset
from shype.host.network.switch import canonical
from shype.host.recovery import recover
from shype.host.status import status
from shype.host.stop import stop
from tests.host.builders import config
from tests.host.network.builders import MemorySwitch, host, start, vif


def records(agent: Agent, kind: str) -> list[dict[str, object]]:
    lines = (agent.state / "audit" / "audit.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [value for value in found if value.get("kind") == kind]


def two(directory: Path) -> tuple[Agent, MemorySwitch]:
    agent, switch = host(directory)
    for name in ("r1", "r2"):
        switch.present.append(vif(start(agent, "red-vm", name)))
    return agent, switch


def test_the_table_is_what_the_policy_says_and_is_recorded_once(tmp_path: Path) -> None:
    agent, switch = two(tmp_path)
    first = mediation.settle(agent)
    assert switch.loaded == ruleset(first.matrix)
    assert first.matrix.pairs == {(1, 1)}
    assert switch.fastened == {"vif1.0", "vif2.0"}
    assert (first.changed, mediation.settle(agent).changed) == (True, False)
    assert switch.loads == 2  # always, in case that somebody has changed it
    record, = records(agent, "network.load")
    assert record["details"] == {"closed": {}, "pairs": 1, "uplinks": [],
                                 "ports": {"vif1.0": "red-vm", "vif2.0": "red-vm"}}


def test_ports_come_and_go(tmp_path: Path) -> None:
    agent, switch = two(tmp_path)
    assert mediation.port_up(agent, "vif1.0").number == 1
    mediation.port_down(agent, "vif2.0")
    assert "vif2.0" not in str(switch.loaded)
    with pytest.raises(Unavailable, match=r"vif9\.0"):
        mediation.port_up(agent, "vif9.0")
    switch.present.append(vif(7))  # of no domain that runs
    with pytest.raises(Unavailable) as caught:
        mediation.port_up(agent, "vif7.0")
    assert caught.value.id == "network.port"


def test_what_is_loaded_is_compared_with_the_policy(tmp_path: Path) -> None:
    agent, switch = two(tmp_path)
    assert "no table" in mediation.check(agent).faults[0]
    mediation.settle(agent)
    assert mediation.check(agent).faults == ()
    switch.loaded = str(switch.loaded).replace("drop", "accept", 1)
    fault, = mediation.check(agent).faults
    assert fault == "chain all of the table `bridge shype` is not what the policy says"
    mediation.settle(agent)
    switch.fastened.discard("vif1.0")
    assert mediation.check(agent).faults == ("vif1.0: learning",)
    mediation.settle(agent)
    switch.present.append(vif(9))
    assert any("vif9.0" in fault for fault in mediation.check(agent).faults)


def test_a_vm_whose_port_cannot_be_filtered_does_not_start(tmp_path: Path) -> None:
    agent, switch = host(tmp_path)
    switch.present.append(vif(1))
    switch.broken = True
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "vm", 'seclabel = "red-vm"'))
    assert caught.value.id == "network.filter"
    assert [d.domid for d in agent.hypervisor.domains()] == [0]
    assert records(agent, "network.load")[-1]["result"] == "failed"
    switch.broken = False
    switch.present[:] = [vif(2, None)]
    with pytest.raises(Unavailable) as caught:
        launch(agent, config(tmp_path, "vm", 'seclabel = "red-vm"'))
    assert caught.value.id == "network.port"
    assert [d.domid for d in agent.hypervisor.domains()] == [0]
    switch.present[:] = [vif(3)]
    assert launch(agent, config(tmp_path, "vm", 'seclabel = "red-vm"')).domid == 3
    assert '"vif3.0" . 00:16:3e:00:00:03 : goto free' in str(switch.loaded)


def test_a_vm_without_interfaces_starts_without_a_filter(tmp_path: Path) -> None:
    agent, switch = host(tmp_path)
    switch.broken = True
    assert launch(agent, config(tmp_path, "vm", 'seclabel = "red-vm"')).domid == 1
    assert records(agent, "network.load")[-1]["result"] == "failed"


def test_rules_of_an_earlier_domain_are_gone_before_its_number_comes_back(tmp_path: Path) -> None:
    agent, switch = host(tmp_path)
    switch.present.append(vif(1))
    launch(agent, config(tmp_path, "vm", 'seclabel = "red-vm"'))
    switch.present.clear()
    assert "vif1.0" in str(switch.loaded)
    launch(agent, config(tmp_path, "other", 'seclabel = "blue-vm"'))
    assert "vif1.0" not in str(switch.loaded)
    before = switch.loads
    launch(agent, config(tmp_path, "third", 'seclabel = "blue-vm"'))
    assert switch.loads == before  # nothing to change


def test_what_only_takes_away_goes_on_when_the_filter_does_not(tmp_path: Path) -> None:
    agent, switch = two(tmp_path)
    switch.broken = True
    recover(agent)
    assert stop(agent, "r1", force=True, timeout=0).destroyed
    assert not status(agent).sound


def test_a_host_without_networks_is_left_alone(tmp_path: Path) -> None:
    from tests.host.builders import host as plain
    from tests.host.builders import model

    agent = plain(tmp_path)
    switch = model(agent).bridges = MemorySwitch()
    launch(agent, config(tmp_path, "a-db"))
    assert switch.loaded is None
    assert status(agent).sound


def test_two_kernels_list_alike() -> None:
    def listed(handle: int, *elements: object) -> list[dict[str, Any]]:
        return [{"metainfo": {"version": handle}},
                {"set": {"name": "a", "handle": handle, "elem": list(elements)}}]

    x, b = ["x", 1], ["b", {"goto": {"target": "c"}}]
    assert canonical(listed(3, x, b)) == canonical(listed(9, b, x))
    assert canonical(listed(3, x, b)) != canonical(listed(3, x))
    assert canonical(listed(3, x, b)) != canonical(listed(3, x, ["b", 1]))
