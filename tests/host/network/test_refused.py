"""What the bridges refused: on record once, with labels and rule, and no flood of records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit import limiter
from shype.host.audit.reader import records
from shype.host.network import mediation
from shype.host.network.reasons import Reason
from shype.host.network.refused import refusals
from shype.host.network.vif import Uplink
from tests.host.audit.builders import FullDisk
from tests.host.builders import model
from tests.host.network.builders import MemorySwitch, host, start, vif


@pytest.fixture
def network(tmp_path: Path) -> tuple[Agent, MemorySwitch]:
    """r1 (1) and b1 (2) on one bridge, who may not communicate."""
    agent, switch = host(tmp_path)
    for name, label in (("r1", "red-vm"), ("b1", "blue-vm")):
        switch.present.append(vif(start(agent, label, name)))
    mediation.settle(agent)
    return agent, switch


def kept(agent: Agent) -> list[dict[str, Any]]:
    return [dict(r.body) for r in records(agent.trail.directory)
            if r.body["kind"] == "network.refuse"]


def test_frames_to_another_coalition_are_recorded_once_with_labels_and_rule(
    network: tuple[Agent, MemorySwitch]
) -> None:
    agent, switch = network
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 7
    done = mediation.take(agent)
    assert (done.frames, done.records, done.waiting) == (7, 1, 0)
    assert mediation.take(agent).records == 0
    record, = kept(agent)
    assert (record["vm"], record["domid"], record["subject"]) == ("r1", 1, "red-vm")
    assert (record["object"], record["object_label"]) == ("vm:b1", "blue-vm")
    assert (record["result"], record["rule"]) == ("refused", "ste.disjoint")
    assert record["rules"]
    assert record["details"] == {"by": "bridge", "frames": 7, "port": "vif1.0", "to": "vif2.0",
                                 "reason": "pair"}
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 9
    assert mediation.take(agent).frames == 2
    assert [r["details"]["frames"] for r in kept(agent)] == [7, 2]


def test_a_false_name_is_recorded_and_a_broadcast_is_only_counted(
    network: tuple[Agent, MemorySwitch]
) -> None:
    agent, switch = network
    switch.frames["vif1.0", "vif1.0", Reason.MAC] = 3
    switch.frames["vif2.0", "vif2.0", Reason.FLOODED] = 1000
    switch.frames["vif9.0", "vif9.0", Reason.STRANGER] = 1
    assert mediation.take(agent).records == 2
    assert {(r.get("vm"), r["rule"]) for r in kept(agent)} == {
        ("r1", "frame.not-own"), (None, "frame.stranger")}
    assert [(r.sender.vm, r.reason, r.frames) for r in refusals(agent)] == [
        ("b1", Reason.FLOODED, 1000), ("r1", Reason.MAC, 3), (None, Reason.STRANGER, 1)]


def test_what_comes_from_outside_is_told_by_its_uplink(tmp_path: Path) -> None:
    agent, switch = host(tmp_path)
    switch.present.append(vif(start(agent, "red-vm", "r1")))
    switch.outside.append(Uplink("eth1.20", "br0", 20))
    mediation.settle(agent)
    switch.frames["eth1.20", "vif1.0", Reason.PAIR] = 2
    mediation.take(agent)
    assert [r.told for r in refusals(agent)] == [
        "eth1.20 (outside) sent to r1 (red-vm) frames addressed to a VM that the policy keeps "
        "apart"]
    record, = kept(agent)
    assert (record.get("vm"), record["object"], record["details"]["port"]) == (
        None, "vm:r1", "eth1.20")


def test_a_new_table_loses_no_count_and_a_vm_that_is_gone_keeps_its_name(
    network: tuple[Agent, MemorySwitch]
) -> None:
    agent, switch = network
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 4
    model(agent).destroy(1)
    switch.present.pop(0)
    mediation.settle(agent)
    assert switch.frames == {}
    record, = kept(agent)
    assert (record["vm"], record["subject"], record["details"]["frames"]) == ("r1", "red-vm", 4)
    # The counters of the new table begin at 0, whatever was seen before.
    switch.frames["vif2.0", "vif2.0", Reason.MAC] = 4
    assert mediation.take(agent).frames == 4


def test_a_counter_that_somebody_has_reset_counts_from_0(
    network: tuple[Agent, MemorySwitch]
) -> None:
    agent, switch = network
    for count in (9, 2, 2, 3):
        switch.frames["vif1.0", "vif2.0", Reason.PAIR] = count
        mediation.take(agent)
    assert [r["details"]["frames"] for r in kept(agent)] == [9, 2, 1]


def test_a_flood_is_few_records_and_every_frame_is_in_one(
    network: tuple[Agent, MemorySwitch], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, switch = network
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(200):
        for reason in (Reason.MAC, Reason.ARP, Reason.TAG):
            key = ("vif1.0", "vif1.0", reason)
            switch.frames[key] = switch.frames.get(key, 0) + 1000
        mediation.take(agent)
    assert len(kept(agent)) == limiter.BURST
    switch.frames["vif2.0", "vif1.0", Reason.PAIR] = 1
    assert mediation.take(agent).records == 1  # another VM has records of its own
    for _ in range(3):
        now += limiter.REFILL
        mediation.take(agent)
    assert sum(r["details"]["frames"] for r in kept(agent)) == 600_001


def test_on_a_full_disk_the_count_waits(
    network: tuple[Agent, MemorySwitch], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, switch = network
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 5
    disk = FullDisk(monkeypatch, agent.trail)
    with pytest.raises(Unavailable) as caught:
        mediation.take(agent)
    assert caught.value.id == "audit.unwritable"
    switch.load("another")  # by somebody else, or by shype's own repair
    disk.full = False
    mediation.take(agent)
    assert [r["details"]["frames"] for r in kept(agent)] == [5]


@pytest.mark.parametrize("damage", [
    b"", b"{", b"[]", b'{"format":1,"boot":""}', b'{"format":1,"boot":7,"buckets":[]}'])
def test_a_damaged_memory_counts_twice_rather_than_never(
    network: tuple[Agent, MemorySwitch], damage: bytes
) -> None:
    agent, switch = network
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 5
    mediation.take(agent)
    (agent.state / "network.refused").write_bytes(damage)
    mediation.take(agent)
    assert [r["details"]["frames"] for r in kept(agent)] == [5, 5]
