"""What one audit record says: the fields of FAU_GEN.1.2 (Common Criteria, part 2).

Time, host and actor are added by the trail that keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shype.decision.decision import Decision
from shype.policy.names import LabelName


class Result(StrEnum):
    """How it ended."""

    PERMITTED = "permitted"
    REFUSED = "refused"  # by the policy, or by what the policy demands of a host
    FAILED = "failed"  # permitted, and then something went wrong
    DONE = "done"  # a change that no policy decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One security-relevant event.

    ``kind`` is a stable word of the form ``noun.verb`` (``launch``, ``disk.attach``,
    ``network.load``, ...). ``subject`` is who acts or gets, by default the VM ``vm``'s label;
    ``object`` names what is acted on (``disk:/dev/vg0/a``, ``vm:b-db``). ``error`` is the id of
    the error of a failed event. Values of ``details`` are JSON.
    """

    kind: str
    result: Result
    vm: str | None = None
    domid: int | None = None
    subject: LabelName | None = None
    decision: Decision | None = None
    error: str | None = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    object_label: str | None = None
    object: str | None = None
    #: It only takes away, or has happened: it is not held up if the trail takes no record now.
    deferrable: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields that are set."""
        value: dict[str, Any] = {"kind": self.kind, "result": str(self.result)}
        for name in ("vm", "domid", "subject", "object", "object_label", "error"):
            found = getattr(self, name)
            if found is not None:
                value[name] = found
        if self.decision is not None:
            value["rule"] = self.decision.id
            value["sentence"] = self.decision.sentence
            value["rules"] = [str(span) for span in self.decision.rules]
        if self.message:
            value["message"] = self.message
        if self.details:
            value["details"] = dict(self.details)
        return value
