"""What the agent needs of dom0's bridges and their packet filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shype.host.network.reasons import REFUSED
from shype.host.network.vif import Uplink, Vif

#: A loaded table as the kernel lists it: its objects, without handles, elements in order.
Listing = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Frames that the table refused since it was loaded.

    ``frames``: (port that sent, port that was to get it, number of the `Reason`) -> how many;
    the sender twice where no receiver is told apart.  ``table`` is another number each time that
    it is loaded, None if none is.
    """

    table: int | None = None
    frames: Mapping[tuple[str, str, int], int] = field(default_factory=dict)


class Switch(Protocol):
    """The bridges of one host.

    Every method raises `shype.base.errors.Unavailable` when it cannot answer or act.
    """

    def vifs(self) -> tuple[Vif, ...]:
        """The network backends of all domains."""

    def uplinks(self) -> tuple[Uplink, ...]:
        """The ports of bridges that are no VM's."""

    def load(self, ruleset: str) -> None:
        """Replace the table by ``ruleset``, all of it or nothing."""

    def listing(self) -> Listing | None:
        """The table that is loaded, None if there is none."""

    def rendered(self, ruleset: str) -> Listing:
        """What `listing` would be if ``ruleset`` were loaded."""

    def refused(self) -> Refused:
        """What the loaded table has refused."""

    def fasten(self, vif: Vif) -> None:
        """Let the bridge know the port's MAC, and learn nothing from what its VM sends."""

    def loose(self, vifs: Sequence[Vif]) -> Mapping[str, str]:
        """What of `fasten` does not hold, by name of the interface; empty if all does."""


class NoSwitch:
    """A host without bridges: what the model of a hypervisor has."""

    def vifs(self) -> tuple[Vif, ...]:
        """See the protocol."""
        return ()

    def uplinks(self) -> tuple[Uplink, ...]:
        """See the protocol."""
        return ()

    def load(self, ruleset: str) -> None:
        """See the protocol."""

    def listing(self) -> Listing | None:
        """See the protocol."""
        return None

    def rendered(self, ruleset: str) -> Listing:
        """See the protocol."""
        return ()

    def refused(self) -> Refused:
        """See the protocol."""
        return Refused()

    def fasten(self, vif: Vif) -> None:
        """See the protocol."""

    def loose(self, vifs: Sequence[Vif]) -> Mapping[str, str]:
        """See the protocol."""
        return {}


def canonical(found: Sequence[dict[str, Any]]) -> Listing:
    """The objects of ``nft -j list table`` in a form that two kernels give alike.

    Handles are numbers of one kernel, the elements of a hash set have no order, and what has
    been refused is no part of the rules.
    """
    return tuple(_bare(_uncounted(item)) for item in found if "metainfo" not in item)


def _uncounted(item: dict[str, Any]) -> dict[str, Any]:
    found = item.get("set")
    if not isinstance(found, dict) or found.get("name") != REFUSED:
        return item
    return {"set": {key: value for key, value in found.items() if key != "elem"}}


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: sorted(map(_bare, item), key=repr) if key == "elem" else _bare(item)
            for key, item in value.items() if key != "handle"
        }
    return [_bare(item) for item in value] if isinstance(value, list) else value
