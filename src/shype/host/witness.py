"""Who looks at the domains right before one of them goes, and when one has come: the meter."""

from __future__ import annotations

from typing import Protocol


class Witness(Protocol):
    """Never raises: what it cannot see is on record, and holds nobody up."""

    def came(self) -> None:
        """A domain has begun to run."""

    def goes(self, domid: int | None = None) -> None:
        """A domain is about to be destroyed: by the agent right after this, if it says which."""


class _Nobody:
    def came(self) -> None:
        """See the protocol."""

    def goes(self, domid: int | None = None) -> None:
        """See the protocol."""


#: On a host that meters nothing.
NOBODY: Witness = _Nobody()
