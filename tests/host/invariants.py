"""What must hold on a host whenever no launch is in progress."""

from __future__ import annotations

from shype.host.agent import Agent
from shype.host.census import held, residents, window


def guests(agent: Agent) -> dict[str, str]:
    """VM -> label of all guests."""
    return {r.domain.name: r.label or "?" for r in residents(agent) if r.domain.domid}


def assert_sound(agent: Agent) -> None:
    """Window closed, wall booleans exactly those of who runs, no record, nobody paused."""
    assert not window(agent).open
    assert all(agent.hypervisor.boolean(bit) is False for bit in agent.manifest.booleans.bits)
    members = held(agent, residents(agent))
    for member, boolean in agent.manifest.booleans.running.items():
        assert agent.hypervisor.boolean(boolean) is (member in members), boolean
    assert agent.journal.read() is None
    assert not [r for r in residents(agent) if r.domain.paused]
    assert not list(agent.state.glob("*.cfg"))
