"""What hypervisor and bridges refused goes on record: at the end of commands, and all the time."""

from __future__ import annotations

from dataclasses import dataclass

from shype.base.errors import ShypeError
from shype.host.agent import Agent
from shype.host.audit.collect import Collected, collect
from shype.host.network import mediation
from shype.host.network.refused import Taken


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is new: the hypervisor's denials, and the bridges' refused frames."""

    denials: Collected
    frames: Taken


def gather(agent: Agent) -> Gathered:
    """Record both; if one fails, still the other. Raises as `collect` and `mediation.take`."""
    try:
        denials = collect(agent)
    finally:
        frames = mediation.take(agent)
    return Gathered(denials, frames)


def gather_quietly(agent: Agent) -> ShypeError | None:
    """The same at the end of a command that has done its work: why it failed, or None."""
    try:
        gather(agent)
    except ShypeError as error:
        return error
    return None
