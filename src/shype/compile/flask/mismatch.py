"""What translation validation reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shype.base.errors import Internal

#: Mismatches that an error message spells out.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference: who on whom, through which mechanism, what each side says."""

    subject: str
    target: str
    mechanism: str
    policy: str
    binary: str

    def __str__(self) -> str:
        return (
            f"{self.subject} -> {self.target}, {self.mechanism}: "
            f"policy says {self.policy}, binary says {self.binary}"
        )


class Disagreement(Internal):
    """The binary does not enforce the policy; ``mismatches`` has every difference."""

    def __init__(self, mismatches: Sequence[Mismatch]) -> None:
        shown = "".join(f"\n  {mismatch}" for mismatch in mismatches[:SHOWN])
        more = len(mismatches) - SHOWN
        super().__init__(
            "validate.mismatch",
            f"the compiled policy does not enforce the policy ({len(mismatches)} differences)"
            + shown + (f"\n  and {more} more" if more > 0 else ""),
            "this is a defect of shype or of secilc: please report it with the policy",
        )
        self.mismatches = tuple(mismatches)


def verdict(permitted: bool) -> str:
    """``permit`` or ``deny``."""
    return "permit" if permitted else "deny"


def short(value: object) -> str:
    """``value`` in words, cut off where it gets long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
