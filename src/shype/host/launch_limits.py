"""What no launch may do whatever the policy says: a second VM of a name, another label."""

from __future__ import annotations

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.census import DOM0, Resident
from shype.host.hypervisor import VmConfig
from shype.host.ids import HostId
from shype.policy.names import LabelName


def require_new(vm: VmConfig, found: tuple[Resident, ...]) -> None:
    """Raises BadInput: ``vm.dom0``, ``vm.running``."""
    for domain in (resident.domain for resident in found):
        if domain.name == vm.name and domain.domid == DOM0:
            raise BadInput(
                "vm.dom0", f"{vm.name} is the name of dom0 itself", "give this VM another name")
        if domain.name == vm.name or (domain.uuid == vm.uuid and vm.uuid and not domain.dying):
            raise BadInput(
                "vm.running", f"{vm.name} runs already, as domain {domain.domid}"
                + (f" ({domain.name}, of the same UUID)" if domain.name != vm.name else ""),
                f"shype stop {domain.name}, or give this VM another name and UUID",
            )


def label_changed(
    agent: Agent, vm: VmConfig, before: LabelName, now: LabelName | None
) -> Decision:
    """The refusal of a VM that starts again as another label."""
    return Decision(
        False, HostId.LABEL_CHANGED,
        f"{vm.name} may not go on as {now}: it has been {before} until now, and the policy never "
        "lets a VM change its label.",
        (agent.policy.host.span,),
    )
