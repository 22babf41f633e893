"""All devices of a VM that is to start: decided, recorded, remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import residents
from shype.host.resources.device import Device, Disk, Nic
from shype.host.resources.judge import Judged, PeerLabel, judge_for, registry_of
from shype.host.resources.registry import Registry
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Granted:
    """What was decided. ``refusal`` is the first denial; then nothing may be attached."""

    judged: tuple[Judged, ...]

    @property
    def refusal(self) -> Decision | None:
        """The first denial."""
        return next((one.decision for one in self.judged if not one.decision.permitted), None)

    @property
    def refused(self) -> tuple[Judged, ...]:
        """All denials."""
        return tuple(one for one in self.judged if not one.decision.permitted)


def grant(
    agent: Agent, vm: str, label: LabelName, devices: Sequence[Device], *, domid: int | None = None,
    paths_matter: bool = False,
) -> Granted:
    """Decide on all ``devices`` for ``vm``; if all are permitted, remember the disks' labels.

    Every decision is in the audit trail when this returns.  Raises BadInput (``disk.*``,
    ``resource.*``), Unavailable (``disks.corrupt``, ``state.unwritable``, ``audit.unwritable``).
    """
    if not devices:
        return Granted(())
    registry = Registry(agent.state)
    judge = judge_for(
        agent.server, registry, peers(agent), vm, label, paths_matter=paths_matter)
    granted = Granted(judge.judge(devices))
    for one in granted.judged:
        result = Result.PERMITTED if one.decision.permitted else Result.REFUSED
        agent.record(Event(
            kind=f"{_noun(one.device)}.attach", result=result, vm=vm, domid=domid, subject=label,
            object=one.object, object_label=one.object_label, decision=one.decision,
        ))
    if granted.refusal is None:
        registry.remember(registry_of(granted.judged))
    return granted


def peers(agent: Agent) -> PeerLabel:
    """Finds the label of a running domain by name or domid; asks the hypervisor when needed."""
    def label_of(name: str) -> LabelName | None:
        for resident in residents(agent):
            if name in (resident.domain.name, str(resident.domain.domid)):
                return resident.label
        return None

    return label_of


def _noun(device: Device) -> str:
    if isinstance(device, Disk):
        return "disk"
    return "network" if isinstance(device, Nic) else "device"
