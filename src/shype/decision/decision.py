"""What a security server answers."""

from __future__ import annotations

from dataclasses import dataclass

from shype.policy.names import CoalitionName, LabelName, MemberName
from shype.policy.source import Span


@dataclass(frozen=True, slots=True)
class Holder:
    """A running domain whose presence decided: it holds ``member`` of a conflict set."""

    domid: int
    vm: str
    label: LabelName
    member: MemberName


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or deny, and why.

    ``id`` is stable: ``ste.shared``, ``ste.disjoint``, ``wall.free``,
    ``wall.conflict`` and so on (docs/reference/decisions.md lists all).  ``rules`` are the
    places in the policy that it follows from, the most telling first.
    """

    permitted: bool
    id: str
    sentence: str
    rules: tuple[Span, ...] = ()
    shared: tuple[CoalitionName, ...] = ()
    holders: tuple[Holder, ...] = ()

    @property
    def verdict(self) -> str:
        """``permit`` or ``deny``."""
        return "permit" if self.permitted else "deny"

    def to_json(self) -> dict[str, object]:
        """Shape of a decision in every ``--json`` output."""
        return {
            "verdict": self.verdict, "id": self.id, "sentence": self.sentence,
            "rules": [str(span) for span in self.rules],
            "shared": list(self.shared),
            "holders": [
                {"domid": h.domid, "vm": h.vm, "label": h.label, "member": h.member}
                for h in self.holders
            ],
        }
