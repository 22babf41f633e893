"""What a security server answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
class Reason:
    """Why: a sentence, the places in the policy, the coalitions shared, who holds the state."""

    sentence: str
    rules: tuple[Span, ...] = ()
    shared: tuple[CoalitionName, ...] = ()
    holders: tuple[Holder, ...] = ()


class Decision:
    """Permit or deny, and why; a value.

    ``id`` is stable: ``ste.shared``, ``ste.disjoint``, ``wall.free``,
    ``wall.conflict`` and so on (docs/reference/decisions.md lists all).  ``rules`` are the
    places in the policy that it follows from, the most telling first.

    The reason of a decision that the security server makes by the million is
    put into words only when somebody asks for it (so this is no dataclass:
    its fields are computed).
    """

    __slots__ = ("_told", "id", "permitted")

    permitted: bool
    id: str

    def __init__(
        self, permitted: bool, id: str, sentence: str, rules: tuple[Span, ...] = (),
        shared: tuple[CoalitionName, ...] = (), holders: tuple[Holder, ...] = (),
    ) -> None:
        self.permitted = permitted
        self.id = id
        # The reason, or the function that gives it and its arguments.
        self._told: Reason | tuple[Any, ...] = Reason(sentence, rules, shared, holders)

    @property
    def reason(self) -> Reason:
        """The sentence, rules, coalitions and holders together."""
        if not isinstance(self._told, Reason):
            make, *arguments = self._told
            self._told = make(*arguments)
        assert isinstance(self._told, Reason)
        return self._told

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return self.reason.sentence

    @property
    def rules(self) -> tuple[Span, ...]:
        """The places in the policy that determined it."""
        return self.reason.rules

    @property
    def shared(self) -> tuple[CoalitionName, ...]:
        """The coalitions through which it is permitted."""
        return self.reason.shared

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The running domains that determined it."""
        return self.reason.holders

    @property
    def verdict(self) -> str:
        """``permit`` or ``deny``."""
        return "permit" if self.permitted else "deny"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return (self.permitted, self.id, self.reason) == (other.permitted, other.id, other.reason)

    def __hash__(self) -> int:
        return hash((self.permitted, self.id, self.reason))

    def __repr__(self) -> str:
        return f"Decision({self.verdict}, {str(self.id)!r}, {self.sentence!r})"

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
