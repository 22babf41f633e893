"""What was refused goes on record at the end of commands: of the hypervisor, and of the bridges."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.decision.operation import Operation
from shype.host.agent import Agent
from shype.host.audit.reader import records
from shype.host.drivers.model import ModelHypervisor
from shype.host.gather import gather, gather_quietly
from shype.host.hypervisor import ConsoleText
from shype.host.network import mediation
from shype.host.network.reasons import Reason
from tests.host.builders import model
from tests.host.network.builders import MemorySwitch, host, start, vif


@pytest.fixture
def network(tmp_path: Path) -> tuple[Agent, MemorySwitch]:
    agent, switch = host(tmp_path)
    for name, label in (("r1", "red-vm"), ("b1", "blue-vm")):
        switch.present.append(vif(start(agent, label, name)))
    mediation.settle(agent)
    model(agent).attempt(1, 2, Operation.EVENT_SEND)
    switch.frames["vif1.0", "vif2.0", Reason.PAIR] = 3
    return agent, switch


def kinds(agent: Agent) -> list[str]:
    return [kind for r in records(agent.trail.directory)
            if (kind := str(r.body["kind"])) in ("denial", "network.refuse")]


def test_both_are_recorded(network: tuple[Agent, MemorySwitch]) -> None:
    agent, _ = network
    done = gather(agent)
    assert (done.denials.denials, done.frames.frames) == (1, 3)
    assert kinds(agent) == ["denial", "network.refuse"]
    assert gather_quietly(agent) is None


def test_if_one_cannot_be_read_the_other_still_is(
    network: tuple[Agent, MemorySwitch], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, _ = network

    def silent(_: ModelHypervisor, after: int | None) -> ConsoleText:
        raise Unavailable("host.console", f"no answer after {after}")

    monkeypatch.setattr(ModelHypervisor, "console", silent)
    problem = gather_quietly(agent)
    assert problem is not None
    assert problem.id == "host.console"
    assert kinds(agent) == ["network.refuse"]
