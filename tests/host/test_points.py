"""`shype status`: on what enforcement rests, whether it holds, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import Backend
from shype.host.points import Point
from shype.host.resources import scripts
from shype.host.status import Status, status
from tests.host.audit.builders import FullDisk
from tests.host.builders import host as plain
from tests.host.network.builders import host, start


def points(now: Status) -> dict[str, Point]:
    """By name."""
    return {point.name: point for point in now.points}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Xen's directory of scripts."""
    made = tmp_path / "scripts"
    made.mkdir()
    for name in scripts.SCRIPTS:
        (made / name).write_text("#!/bin/sh\n")
        (made / name).chmod(0o755)
    monkeypatch.setattr(ModelHypervisor, "scripts", lambda _: made)
    return made


def test_the_veto_is_demanded_where_the_policy_labels_disks_or_networks(
    tmp_path: Path, place: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = plain(tmp_path / "other")
    veto = points(status(other))["hotplug veto"]
    assert (veto.holds, veto.demanded, status(other).sound) == (False, False, True)
    agent, _ = host(tmp_path)
    assert points(status(agent))["hotplug veto"].wrong
    assert not status(agent).sound
    scripts.install("/usr/bin/shype", place)
    assert points(status(agent))["hotplug veto"].holds
    assert status(agent).sound
    (place / "block.xen").unlink()
    assert "block.xen is missing" in str(points(status(agent))["hotplug veto"])
    assert not status(agent).sound


def test_a_device_that_nobody_permitted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, _ = host(tmp_path)
    domid = start(agent, "blue-vm", "b1")
    assert points(status(agent))["devices"].said == "no VM has one"
    held = Backend("vif", domid, "0", {"bridge": "br-red"})
    monkeypatch.setattr(ModelHypervisor, "backends", lambda _: (held,))
    point = points(status(agent))["devices"]
    assert point.wrong
    assert "b1 has network (none) [" in point.said  # no such interface is on a bridge
    assert "shype devices" in point.fix
    assert not status(agent).sound

    def silent(_: ModelHypervisor) -> tuple[Backend, ...]:
        raise Unavailable("xl.failed", "no answer")

    monkeypatch.setattr(ModelHypervisor, "backends", silent)
    assert points(status(agent))["devices"].wrong


def test_the_trail_says_seal_anchor_and_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = plain(tmp_path)
    assert points(status(agent))["audit trail"].said == "no record yet"
    _record(agent)
    point = points(status(agent))["audit trail"]
    assert point.holds
    assert "its verification key is still on this host" in point.said
    assert "shype audit key" in point.fix
    agent.trail.take_key()
    agent.trail.forget_key()
    point = points(status(agent))["audit trail"]
    assert "; sealed" in point.said
    assert not point.fix
    real = os.statvfs(agent.trail.directory)
    small = os.statvfs_result((*real[:4], 100, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    point = points(status(agent))["audit trail"]
    assert point.holds  # it takes records still
    assert f"{100 * real.f_frsize // 1024} KiB are left" in point.said
    assert "make room" in point.fix
    assert status(agent).sound


def test_a_trail_without_room_is_not_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = plain(tmp_path)
    _record(agent)
    assert status(agent).sound
    FullDisk(monkeypatch, agent.trail)
    _record(agent)
    assert "NO ROOM" in points(status(agent))["audit trail"].said
    assert not status(agent).sound
    (agent.trail.places.head).unlink()
    assert "[audit.broken]" in points(status(agent))["audit trail"].said


def _record(agent: Agent) -> None:
    agent.record(Event(kind="test", result=Result.DONE, deferrable=True))
