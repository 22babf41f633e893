"""The policy's meaning once more, as slow and as plain as the literature states it.

Simple Type Enforcement and Chinese Wall (Sailer et al., ACSAC 2005; Brewer and
Nash, 1989), levels (Bell and LaPadula, 1973), integrity (Biba, 1977), switches
of mechanisms, guards, tombstones and renames.  Nothing here is shared with the
code that it judges: no import of it, no bits, no caches.  An answer is the set
of reasons that apply; it is a permission iff they are among `PERMISSIONS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date

#: A rank, counted from the lowest, and categories.
Point = tuple[int, frozenset[str]]
#: A low and a high point.
Range = tuple[Point, Point]


@dataclass(frozen=True)
class Coalition:
    """What its members may use between them, and whether a lower one may send up blindly."""

    opens: frozenset[str]
    write_up: bool = False


@dataclass(frozen=True)
class Label:
    """What a VM carries. ``guard`` is (from, to) for a guard's label."""

    coalitions: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    level: Range | None = None
    integrity: Range | None = None
    uses: frozenset[str] = frozenset()
    guard: tuple[str, str] | None = None
    expires: date | None = None
    was: str | None = None
    locked: bool = False


@dataclass(frozen=True)
class World:
    """A policy and a day. ``retired`` has the members that a label held."""

    coalitions: Mapping[str, Coalition]
    walls: Mapping[str, frozenset[str]]
    labels: Mapping[str, Label]
    dom0: str
    retired: Mapping[str, frozenset[str]] = field(default_factory=dict)
    today: date | None = None


PERMISSIONS = {"shared", "guard passes", "dom0 itself", "served by dom0", "free", "used"}

#: Operation: its mechanism and the ways that information moves, as (from, to) of
#: S, who acts, and O. In a `blind` one the sender cannot tell what became of it.
S_TO_O, O_TO_S = ("S", "O"), ("O", "S")
OPERATIONS: dict[str, tuple[str, list[tuple[str, str]], bool]] = {
    "event.send": ("event", [S_TO_O, O_TO_S], False),
    "grant.map_read": ("grant", [O_TO_S], False),
    "grant.map_write": ("grant", [S_TO_O, O_TO_S], False),
    "grant.copy_from": ("grant", [O_TO_S], True),
    "grant.copy_to": ("grant", [S_TO_O], True),
    "argo.send": ("argo", [S_TO_O], True),
    "disk.read": ("disk", [O_TO_S], False),
    "disk.write": ("disk", [S_TO_O, O_TO_S], False),
    "network.send": ("network", [S_TO_O], True),
    "xenstore.read": ("xenstore", [O_TO_S], False),
}
POWER = ("foreign.map", "control.domain")
MAPS = ("grant.map_read", "grant.map_write")


def dominates(a: Point, b: Point) -> bool:
    """At least as high, and with everything that the other has."""
    return a[0] >= b[0] and all(category in a[1] for category in b[1])


def forbidden_by(source: Label, sink: Label) -> set[str]:
    """The lattices against it. A range gives from its low end and takes up to its high end."""
    a, b, x, y = source.level, sink.level, source.integrity, sink.integrity
    level = {"level"} if a and b and not dominates(b[1], a[0]) else set()
    integrity = {"integrity"} if x and y and not dominates(x[1], y[0]) else set()
    return level | integrity


def expired(world: World, label: Label) -> bool:
    """A guard's day has come."""
    return bool(label.expires and world.today and label.expires <= world.today)


def may_do(world: World, subject: str, object: str, operation: str) -> set[str]:
    """Why a domain labelled ``subject`` may, or may not, do ``operation`` to the other."""
    if subject in world.retired or object in world.retired:
        return {"retired"}
    if world.dom0 in (subject, object):
        return _with_dom0(world, subject, object, operation)
    if operation in POWER:
        return {"power"}
    s, o = world.labels[subject], world.labels[object]
    if s.guard and o.guard:
        return {"two guards"}
    if s.guard or o.guard:
        return _with_guard(world, s, o, operation)
    return _between_guests(world, s, o, operation)


def _with_dom0(world: World, subject: str, object: str, operation: str) -> set[str]:
    if operation == "argo.send":
        return {"no Argo"}
    if subject == object:
        return {"dom0 itself"}
    if subject != world.dom0 and operation in POWER:
        return {"power"}
    authority = may_authorize(world, object if subject == world.dom0 else subject)
    if subject == world.dom0 and operation == "foreign.map" and authority <= PERMISSIONS:
        return {"locked"} if world.labels[object].locked else authority
    maps_dom0 = object == world.dom0 and operation in MAPS and authority <= PERMISSIONS
    return {"no map"} if maps_dom0 else authority


def may_authorize(world: World, label: str) -> set[str]:
    """dom0 has every coalition that the label takes part in, a guard's two included."""
    needed = set(world.labels[label].coalitions) | set(world.labels[label].guard or ())
    has_all = needed <= set(world.labels[world.dom0].coalitions)
    return {"served by dom0"} if has_all else {"not authorized"}


def _between_guests(world: World, s: Label, o: Label, operation: str) -> set[str]:
    mechanism, ways, blind = OPERATIONS[operation]
    shared = [c for c in s.coalitions if c in o.coalitions]
    if not shared:
        return {"nothing in common"}
    opened = [c for c in shared if mechanism in world.coalitions[c].opens]
    if not opened:
        return {"not opened"}
    if mechanism not in s.uses or mechanism not in o.uses:
        return {"switched off"}
    side = {"S": s, "O": o}
    how = "both" if len(ways) == 2 else "read" if ways == [O_TO_S] else "write"
    for a, b in ways:
        if forbidden_by(side[a], side[b]):
            against = set().union(*(forbidden_by(side[x], side[y]) for x, y in ways))
            return {f"{lattice} {how}" for lattice in against}
    if blind:
        back = forbidden_by(side[ways[0][1]], side[ways[0][0]])
        if back and not any(world.coalitions[c].write_up for c in opened):
            return {f"{lattice} blind" for lattice in back}
    return {"shared"}


def _with_guard(world: World, s: Label, o: Label, operation: str) -> set[str]:
    """Everything that is in the way; literature does not say which to name first."""
    mechanism, ways, _ = OPERATIONS[operation]
    guard, other = (s, o) if s.guard else (o, s)
    source, sink = guard.guard or ("", "")
    if source not in other.coalitions and sink not in other.coalitions:
        return {"nothing in common"}
    if expired(world, guard):
        return {"expired"}
    problems = set()
    # Each send is checked, so a channel may notify one way.
    ways = [S_TO_O] if operation == "event.send" else ways
    for way in ways:
        a, b = (s, o) if way == S_TO_O else (o, s)
        coalition = sink if a is guard else source
        if coalition not in other.coalitions:
            problems.add("wrong way")
        if mechanism not in world.coalitions[coalition].opens:
            problems.add("not opened")
        if mechanism not in s.uses or mechanism not in o.uses:
            problems.add("switched off")
        how = "both" if len(ways) == 2 else "read" if way == O_TO_S else "write"
        problems |= {f"{lattice} {how}" for lattice in forbidden_by(a, b)}
    return problems or {"guard passes"}


def may_launch(
    world: World, label: str, running: Sequence[str], vector: Set[str] | None = None
) -> set[str]:
    """Whether a VM with this label may start beside VMs with the labels ``running``."""
    if label in world.retired:
        return {"retired"}
    if label == world.dom0:
        return {"reserved"}
    if may_authorize(world, label) == {"not authorized"}:
        return {"not authorized"}
    if expired(world, world.labels[label]):
        return {"expired"}
    if vector is not None and label not in vector:
        return {"not in the vector"}
    if world.labels[label].locked and label in running:
        return {"locked"}
    free = may_start(world.walls.values(), [held(world, r) for r in running], held(world, label))
    return {"free"} if free else {"wall"}


def held(world: World, label: str) -> frozenset[str]:
    """The members of conflict sets that a VM with this label holds while it runs."""
    return world.retired[label] if label in world.retired else world.labels[label].members


def carried_over(new: World, label: str) -> str | None:
    """The label that a running VM has after an update, or None: it would lose it."""
    for name, entry in new.labels.items():
        if entry.was == label:
            return name
    return label if label in new.labels or label in new.retired else None


def may_start(walls: Collection[Set[str]], running: Sequence[Set[str]], new: Set[str]) -> bool:
    """No running label holds a different member of a conflict set of which ``new`` holds one.

    For labels with at most one member of each conflict set.
    """
    return all(
        theirs == mine
        for members in running for wall in walls
        for theirs in members & wall for mine in new & wall
    )


def may_use(world: World, vm: str, kind: str, thing: Label | None, access: str) -> set[str]:
    """Why a VM may or may not "read", "write" (blindly) or "read-write" a resource.

    Whoever asks has the resource's label, which uses nothing if it is inaccessible.
    """
    if thing is None:
        return {"no label"}
    if vm in world.retired:
        return {"retired"}
    if not thing.uses:
        return {"inaccessible"}
    own = world.labels[vm]
    if expired(world, own):
        return {"expired"}
    problems, opened, blind = set(), False, False
    for way in access.split("-"):
        mine = own.coalitions if own.guard is None else {own.guard[way == "write"]}
        shared = [c for c in mine if c in thing.coalitions]
        if not shared:
            other = own.guard and set(own.guard) & thing.coalitions
            problems.add("wrong way" if other else "nothing of it")
        opened |= any("network" in world.coalitions[c].opens for c in shared)
        blind |= way == "write" and any(world.coalitions[c].write_up for c in shared)
        ends = (thing, own) if way == "read" else (own, thing)
        problems |= {f"{lattice} {way}" for lattice in forbidden_by(*ends)}
    if kind == "network":
        problems |= {"switched off"} if kind not in own.uses else set()
        problems |= {"not opened"} if not opened else set()
    if access == "write" and not blind and own.guard is None:
        problems |= {f"{lattice} blind" for lattice in forbidden_by(thing, own)}
    return problems or {"used"}
