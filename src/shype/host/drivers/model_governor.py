"""A model of Xen's scheduler: it knows what domains are held to, and holds nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from shype.host.drivers.model_state import State
from shype.host.governor import WEIGHT, Share


class ModelGovernor:
    """Implements `shype.host.governor.Governor`; ``state`` opens the model's state."""

    def __init__(self, state: Callable[[], AbstractContextManager[State]]) -> None:
        self._state = state

    def share(self, domid: int) -> Share | None:
        """See the protocol."""
        with self._state() as state:
            if all(domain.domid != domid for domain in state.domains):
                return None
            return Share(*state.shares.get(str(domid), (WEIGHT, 0)))

    def set_share(self, domid: int, share: Share) -> None:
        """See the protocol."""
        with self._state() as state:
            state.shares[str(domid)] = (share.weight, share.cpu)

    def rates(self, vif: str) -> tuple[int, int]:
        """See the protocol; the model has no interfaces."""
        return (0, 0)

    def set_rate(self, vif: str, rate: int) -> None:
        """See the protocol."""
