"""What the agent needs of whoever gives processors and networks to domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: Xen's weight of a domain of which nobody said another.
WEIGHT = 256


@dataclass(frozen=True, slots=True)
class Share:
    """A domain's part of the processors: its ``weight`` when they are short, and the most that it
    gets (``cpu``, percent of one; 0: all)."""

    weight: int = WEIGHT
    cpu: int = 0


class Governor(Protocol):
    """Xen's scheduler, and the shaping of the kernel's interfaces.

    Every method raises `shype.base.errors.Unavailable` (``quota.governor``) when it cannot.
    """

    def share(self, domid: int) -> Share | None:
        """What a domain is held to; None if there is no such domain."""

    def set_share(self, domid: int, share: Share) -> None:
        """Hold a domain to it from now on."""

    def rates(self, vif: str) -> tuple[int, int]:
        """What an interface of dom0 is held to, towards its guest and from it; bit/s, 0: nothing.
        """

    def set_rate(self, vif: str, rate: int) -> None:
        """Hold it to ``rate`` bit/s, in both directions."""
