"""The guests of a running lab try everything, and each outcome is held against the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.security_server import SecurityServer
from shype.lab import handover, probe
from shype.lab.host import Lab
from shype.lab.probe import Attempt, Result
from shype.policy.manifest import Bundle
from shype.policy.names import LabelName

#: Seconds in which a guest boots on a busy machine.
BOOT = 300.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt and what the policy says of it."""

    attempt: Attempt
    decision: Decision

    @property
    def agrees(self) -> bool:
        """Whether the hypervisor did what the policy says; an error never does."""
        wanted = Result.PERMITTED if self.decision.permitted else Result.DENIED
        return self.attempt.result is wanted

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {**self.attempt.to_json(), "decision": self.decision.to_json(),
                "agrees": self.agrees}


def matrix(lab: Lab, vms: Sequence[str]) -> tuple[Trial, ...]:
    """Every ordered pair of the running guests ``vms``, by every mechanism.

    Raises BadInput (``guest.unknown``, ``lab.no-policy``), Unavailable if a
    guest does not answer.
    """
    if not lab.record.policy:
        raise BadInput(
            "lab.no-policy", f"the lab {lab.name} enforces no policy",
            "start it with one: shype lab up POLICY",
        )
    bundle = handover.fetched(lab)[0]
    labels = {vm: label for vm, label in _labels(lab, bundle).items() if vm in vms}
    missing = [vm for vm in vms if vm not in labels]
    if missing:
        raise BadInput(
            "guest.unknown", f"no guest {', '.join(missing)} with a label of the policy runs",
            "start it in dom0: shype lab run -- shype run VM.cfg",
        )
    server = SecurityServer(bundle.policy, today=date.today())
    probe.wait_for(lab.run, vms, timeout=BOOT)
    return tuple(
        Trial(attempt, attempt.mechanism.decide(
            server, labels[attempt.source], labels[attempt.target]))
        for attempt in probe.probe_matrix(lab.run, vms)
    )


def _labels(lab: Lab, bundle: Bundle) -> dict[str, LabelName]:
    """The label of each guest, by the hypervisor's own account."""
    found = {}
    for line in lab.run(["xl", "list", "-Z"]).out.splitlines()[1:]:
        row = line.split()
        label = bundle.manifest.label_of_context(row[-1])
        if row[1] != "0" and label is not None:
            found[row[0]] = label
    return found
