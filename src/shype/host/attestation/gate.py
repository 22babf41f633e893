"""Attested labels: their VMs start and go on only on a host that a verifier trusts."""

from __future__ import annotations

from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.attest_result import Reason
from shype.host.attestation.standing import objection
from shype.host.ids import HostId
from shype.policy.names import LabelName

_IDS = {
    "result.none": HostId.ATTESTED_NONE,
    "result.other-boot": HostId.ATTESTED_NONE,
    "result.other-host": HostId.ATTESTED_NONE,
    "attestation.not-enrolled": HostId.ATTESTED_NONE,
    "result.expired": HostId.ATTESTED_EXPIRED,
    "result.not-yet": HostId.ATTESTED_EXPIRED,
    "result.not-trusted": HostId.ATTESTED_UNTRUSTED,
    "result.other-policy": HostId.ATTESTED_POLICY,
}


def refusal(agent: Agent, label: LabelName, doing: str = "start") -> Decision | None:
    """Why a VM of ``label`` may not ``doing`` on this host now; None if nothing is against it.

    Raises Unavailable (``attestation.corrupt``).
    """
    if not agent.policy.labels[label].attested:
        return None
    found = objection(agent)
    return None if found is None else denied(agent, label, doing, found)


def denied(agent: Agent, label: LabelName, doing: str, why: Reason) -> Decision:
    """The refusal for an objection to this host."""
    section = agent.policy.attestation
    rules = () if section is None else (section.span,)
    return Decision(
        False, _IDS.get(why.id, HostId.ATTESTED_UNTRUSTED),
        f"{label} may not {doing}: it is attested, and {why.message}.",
        (agent.policy.labels[label].span, *rules),
    )
