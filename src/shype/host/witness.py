"""Who looks at the domains right before one of them goes, and when one has come: the meter."""

from __future__ import annotations

from typing import Protocol


class Witness(Protocol):
    """Never raises: what it cannot see is on record, and holds nobody up."""

    def came(self) -> None:
        """A domain has begun to run."""

    def goes(self) -> None:
        """A domain is about to be destroyed."""


class _Nobody:
    def came(self) -> None:
        """See the protocol."""

    def goes(self) -> None:
        """See the protocol."""


#: On a host that meters nothing.
NOBODY: Witness = _Nobody()
