"""Who runs, by the hypervisor's own account, and what the policy's booleans must say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.decision.running import Running
from shype.host import wall
from shype.host.agent import Agent
from shype.host.hypervisor import Domain
from shype.policy.names import LabelName, MemberName

#: dom0's domain id.
DOM0 = 0


@dataclass(frozen=True, slots=True)
class Resident:
    """A domain and the label that its security context stands for (None: not of this policy)."""

    domain: Domain
    label: LabelName | None


@dataclass(frozen=True, slots=True)
class Window:
    """The launch window: open or closed, and for which label (None if the bits name none)."""

    open: bool
    label: LabelName | None


def residents(agent: Agent) -> tuple[Resident, ...]:
    """All domains, dom0 included. The hypervisor is the truth: nothing is remembered."""
    label_of = agent.manifest.label_of_context
    return tuple(Resident(d, label_of(d.context)) for d in agent.hypervisor.domains())


def running(found: Sequence[Resident]) -> tuple[Running, ...]:
    """The guests as the Chinese Wall counts them: dying and paused ones too.

    A domain of no known label keeps its context in place of the label, so that
    the security server refuses to decide beside it.
    """
    return tuple(
        Running(r.domain.domid, r.domain.name, r.label or LabelName(r.domain.context))
        for r in found if r.domain.domid != DOM0
    )


def held(agent: Agent, found: Sequence[Resident]) -> frozenset[MemberName]:
    """The members of conflict sets that known guests hold, those of retired labels included."""
    labels = {r.label for r in found if r.domain.domid != DOM0 and r.label}
    return wall.members_of(agent.policy, labels)


def wall_values(agent: Agent, found: Sequence[Resident]) -> dict[str, bool]:
    """What every ``run_`` boolean must be; and that nobody may load another policy.

    Beside a domain of unknown label nothing that is set is released: it might
    be that domain's.
    """
    return wall.running_values(
        agent.manifest, held(agent, found), lambda boolean: value(agent, boolean),
        strange=any(r.label is None for r in found),
    ) | dict.fromkeys(agent.manifest.booleans.flags, False)


def value(agent: Agent, boolean: str) -> bool:
    """A boolean that the policy must have. Raises Unavailable ``host.wrong-policy``."""
    found = agent.hypervisor.boolean(boolean)
    if found is None:
        raise wrong_policy(agent)
    return found


def window(agent: Agent) -> Window:
    """The launch window as the hypervisor has it."""
    names = agent.manifest.booleans
    now = {name: value(agent, name) for name in (names.enable, *names.bits)}
    if not now[names.enable]:
        return Window(False, None)
    labels = agent.manifest.labels
    matching = (name for name in labels if agent.manifest.window_values(name) == now)
    return Window(True, next(matching, None))


def wrong_policy(agent: Agent) -> Unavailable:
    """The error for a hypervisor that enforces a policy that is not the bundle's."""
    ref = agent.manifest.policy
    return Unavailable(
        "host.wrong-policy",
        f"the hypervisor has another policy loaded than {ref.name} {ref.version} "
        f"({agent.bundle.path}, digest {agent.manifest.digest[:12]})",
        f"boot the hypervisor with that policy (shype bundle extract {agent.bundle.path} -o DIR "
        "writes its policy.bin), or point --bundle at the one that it has loaded",
    )
