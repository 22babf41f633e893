"""Channels that no policy mediates: a class of flows of its own, each with its name.

They are there whatever a policy says, as far as their condition holds: two VMs
on one host, a grant between them, or membership in a wall. The list holds what
is known of Xen 4.17 with FLASK under shype; docs/explanation/limits.md tells
what is done about each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shype.analysis.flows.vertex import Role
from shype.base import bits
from shype.policy.mechanism import Mechanism

if TYPE_CHECKING:
    from shype.analysis.flows.graph import FlowGraph


class Kind(StrEnum):
    """OVERT: made to carry data, but not under the policy. The others are covert channels."""

    OVERT = "overt"
    STORAGE = "storage"
    TIMING = "timing"


@dataclass(frozen=True, slots=True)
class Channel:
    """An unmediated channel. ``rows`` says between whom it exists in a graph."""

    id: str
    kind: Kind
    sentence: str
    remedy: str
    rows: Callable[[FlowGraph], Sequence[int]]


def _guests(graph: FlowGraph) -> int:
    return graph.having(Role.LABEL) | graph.having(Role.GUARD) | graph.having(Role.DRIVER)


def _any_two(graph: FlowGraph) -> list[int]:
    """Both ways between any two that run on one host."""
    guests = _guests(graph)
    return [
        beside & guests if guests >> index & 1 else 0 for index, beside in enumerate(graph.beside)
    ]


def _copied(graph: FlowGraph) -> list[int]:
    """From anybody to whom others may copy, with both of them on its host.

    dom0 is one of these others only if it works together with the VMs.
    """
    guests = _guests(graph)
    sinks = [0] * len(graph)
    for source in bits.each(guests):
        near = graph.beside[source] & guests
        for sink in bits.each(graph.copied[source] & guests):
            sinks[sink] |= near & graph.beside[sink]
    return bits.transposed(sinks, len(graph))


def _wall_members(graph: FlowGraph) -> list[int]:
    """From who holds a member of a wall to everybody that runs beside it."""
    policy = graph.server.policy
    return [
        row if row and policy.labels[graph.vertices[index].labels[0]].members else 0
        for index, row in enumerate(_any_two(graph))
    ]


def _granted(graph: FlowGraph) -> list[int]:
    """Back from who maps to who granted."""
    forth = graph.by_mechanism.get(Mechanism.GRANT, [0] * len(graph))
    guests = _guests(graph)
    return [
        row & guests if guests >> index & 1 else 0
        for index, row in enumerate(bits.transposed(forth, len(graph)))
    ]


#: All that are known, the widest first.
CHANNELS: tuple[Channel, ...] = (
    Channel(
        "copy-by-others", Kind.OVERT,
        "Xen checks a grant copy between the owners of the two pages, and not who makes it, so "
        "whoever both let in can write to a VM to which some other may copy",
        "let coalitions open event and argo only, or keep the third party off the host by a wall",
        _copied,
    ),
    Channel(
        "xenstore-state", Kind.STORAGE,
        "a XenStore transaction fails if another VM changed what it read, even what it may not "
        "read, and a node's generation count grows with every write of anybody",
        "a xenstored built with shype's patch (docs/adr/0022-xenstore.md)",
        _any_two,
    ),
    Channel(
        "access-counters", Kind.STORAGE,
        "every domain may ask how many accesses FLASK has looked up on each CPU, and each checked "
        "call of anybody is counted",
        "build Xen without CONFIG_XSM_FLASK_AVC_STATS",
        _any_two,
    ),
    Channel(
        "event-ports", Kind.STORAGE,
        "FLASK does not ask whether a domain may open ports in the event channel table of another, "
        "which sees them used up",
        "none in stock Xen with FLASK; other levels are safe from it",
        _any_two,
    ),
    Channel(
        "grant-status", Kind.STORAGE,
        "who maps a granted page sets the reading and writing bits of the grant entry, which is "
        "in the granter's memory, so a one-way grant has a narrow way back",
        "none while the grant exists; use a guard where this matters",
        _granted,
    ),
    Channel(
        "wall-booleans", Kind.STORAGE,
        "every domain may ask FLASK for its booleans, which tell the members of walls that run",
        "none in stock Xen: FLASK_GETBOOL has no permission",
        _wall_members,
    ),
    Channel(
        "shared-hardware", Kind.TIMING,
        "caches, memory bus and CPU time are shared between VMs of one host",
        "pin VMs to cores of their own, core scheduling; walls keep labels off one host",
        _any_two,
    ),
)
