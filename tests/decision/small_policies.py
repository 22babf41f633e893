"""Random policies over few names, so that overlaps are the rule and not the exception."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache
from itertools import count
from typing import TypeVar

from hypothesis import strategies as st

from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import (
    Coalition,
    Enforcement,
    Guard,
    Host,
    Label,
    Policy,
    Resource,
    ResourceKind,
    ResourceLabel,
    Retired,
    Wall,
)
from shype.policy.names import (
    UNLABELED,
    CategoryName,
    CoalitionName,
    LabelName,
    MemberName,
    ResourceLabelName,
    SensitivityName,
    WallName,
)
from shype.policy.source import Span

from . import reference_model as model

#: The first day of every story; guards expire from the day before it to five days later.
TODAY = date(2030, 6, 1)

TYPES = tuple(map(CoalitionName, "stu"))
MEMBERS = tuple(map(MemberName, "abcde"))
DOM0 = LabelName("host")

T = TypeVar("T")


class Chooser:
    """Choices for a policy, from numbers below a bound that Hypothesis (or a seed) supplies.

    One number a choice: drawing sets and lists by Hypothesis's own strategies
    takes ten times as long, and the number of policies tried is what counts.
    """

    def __init__(self, below: Callable[[int], int]) -> None:
        self.below = below

    def one(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T]) -> frozenset[T]:
        """Any subset."""
        bits = self.below(2 ** len(items))
        return frozenset(item for i, item in enumerate(items) if bits >> i & 1)

    def switches(self) -> frozenset[Mechanism]:
        """Mechanisms: mostly all."""
        return self.some(sorted(SWITCHABLE)) if self.below(3) == 2 else SWITCHABLE

    def lattice(self, span: Span) -> Lattice | None:
        """None, or up to three sensitivities and two categories."""
        names = [SensitivityName(name) for name in ("low", "mid", "high")[: self.below(4)]]
        categories = [CategoryName(name) for name in "xy"[: self.below(3)]]
        return Lattice(tuple(names), tuple(categories), span) if names else None

    def level(self, lattice: Lattice) -> Level:
        """Any point of the lattice."""
        return Level(self.below(len(lattice.order)), self.some(lattice.categories))

    def range(self, pool: Sequence[Level], *, trusted: bool) -> LevelRange | None:
        """One level of ``pool``, or for who is trusted the range of two."""
        if not pool:
            return None
        one = self.one(pool)
        two = self.one(pool) if trusted else one
        return LevelRange(one.meet(two), one.join(two))

    def members(self, walls: Sequence[frozenset[MemberName]]) -> frozenset[MemberName]:
        """Declared members, at most one of each conflict set."""
        held: set[MemberName] = set()
        wanted = self.some(MEMBERS)
        first = self.below(len(MEMBERS))
        for member in MEMBERS[first:] + MEMBERS[:first]:
            behind = [wall for wall in walls if member in wall]
            if member in wanted and behind and not any(held & wall for wall in behind):
                held.add(member)
        return frozenset(held)


@lru_cache
def _below(bound: int) -> st.SearchStrategy[int]:
    return st.integers(0, bound - 1)


@st.composite
def small_policies(draw: st.DrawFn, *, levels: bool = True, guards: bool = True) -> Policy:
    """As `small_policy`."""
    return small_policy(Chooser(lambda bound: draw(_below(bound))), levels=levels, guards=guards)


@st.composite
def policies_with_resources(draw: st.DrawFn) -> Policy:
    """As `small_policy` and `small_resources`."""
    choose = Chooser(lambda bound: draw(_below(bound)))
    return small_resources(choose, small_policy(choose))


def small_policy(choose: Chooser, *, levels: bool = True, guards: bool = True) -> Policy:
    """A valid policy with every part that decisions between VMs depend on.

    Labels ``l0``.. (some of driver domains, perhaps ``unlabeled``), guards
    ``g0``.., perhaps a tombstone ``r0``. Without ``levels`` there are no lattices.
    """
    lines = count(1)

    def span() -> Span:
        return Span("small.yaml", next(lines), 1)

    confidentiality = choose.lattice(span()) if levels else None
    integrity = choose.lattice(span()) if levels else None
    # A few levels for all labels, so that equal ones are frequent.
    pools = [
        [choose.level(lattice) for _ in range(2 + choose.below(3))] if lattice else []
        for lattice in (confidentiality, integrity)
    ]
    walls = [
        wall for wall in (choose.some(MEMBERS) for _ in range(choose.below(4))) if len(wall) > 1
    ]
    names = [LabelName(f"l{index}") for index in range(1 + choose.below(5))]
    drivers = frozenset(names[: choose.below(3)])
    if choose.below(2):
        names.append(UNLABELED)
    served = choose.some(TYPES) if choose.below(2) else frozenset(TYPES)
    labels = {DOM0: Label(DOM0, served, frozenset(), span())}
    passing = {}
    for name in [LabelName(f"g{index}") for index in range(choose.below(3) if guards else 0)]:
        source = choose.one(TYPES)
        sink = choose.one([other for other in TYPES if other != source])
        days = choose.below(8)
        expires = TODAY + timedelta(days=days - 2) if days else None
        passing[name] = Guard(name, source, sink, "the test says so", expires, span())
    for name in [*names, *passing]:
        guard = name in passing
        labels[name] = Label(
            name, frozenset() if guard else choose.some(TYPES), choose.members(walls),
            passing[name].span if guard else span(),
            choose.range(pools[0], trusted=guard or name in drivers),
            choose.range(pools[1], trusted=guard or name in drivers),
            mechanisms=choose.switches(),
        )
    retired = {
        name: Retired(name, span(), choose.members(walls))
        for name in map(LabelName, ["r0"][: choose.below(2)])
    }
    return Policy(
        name="small", version="1.0", source="small.yaml",
        coalitions={
            name: Coalition(name, span(), choose.switches(), write_up=bool(choose.below(2)))
            for name in TYPES
        },
        walls={
            WallName(f"w{i}"): Wall(WallName(f"w{i}"), wall, span()) for i, wall in enumerate(walls)
        },
        labels=labels, host=Host(DOM0, drivers, Enforcement.ENFORCING, span()),
        levels=confidentiality, integrity=integrity, guards=passing, retired=retired,
    )


def world_of(policy: Policy, today: date | None = None) -> model.World:
    """The same policy in the plain data of the reference model."""
    def mechanisms(switches: frozenset[Mechanism]) -> frozenset[str]:
        return frozenset(str(mechanism) for mechanism in switches)

    def ends(levels: LevelRange | None) -> model.Range | None:
        if levels is None:
            return None
        return (
            (levels.low.rank, frozenset(levels.low.categories)),
            (levels.high.rank, frozenset(levels.high.categories)),
        )

    guards = policy.guards
    return model.World(
        coalitions={
            str(name): model.Coalition(mechanisms(entry.mechanisms), entry.write_up)
            for name, entry in policy.coalitions.items()
        },
        walls={str(name): frozenset(wall.members) for name, wall in policy.walls.items()},
        labels={
            str(name): model.Label(
                frozenset(label.coalitions), frozenset(label.members), ends(label.level),
                ends(label.integrity), mechanisms(label.mechanisms),
                (guards[name].source, guards[name].sink) if name in guards else None,
                guards[name].expires if name in guards else None, label.was, label.locked,
            )
            for name, label in policy.labels.items()
        },
        dom0=str(policy.host.dom0),
        retired={str(name): frozenset(tomb.members) for name, tomb in policy.retired.items()},
        today=today,
    )


def renamed(policy: Policy, old: LabelName, new: LabelName) -> Policy:
    """The next version, in which ``old`` is called ``new``."""
    def name(label: LabelName) -> LabelName:
        return new if label == old else label

    return replace(
        policy,
        labels={
            name(n): replace(label, name=name(n), was=old if n == old else None)
            for n, label in policy.labels.items()
        },
        guards={name(n): replace(guard, name=name(n)) for n, guard in policy.guards.items()},
        host=replace(
            policy.host, dom0=name(policy.host.dom0),
            drivers=frozenset(map(name, policy.host.drivers)),
        ),
    )


def small_resources(choose: Chooser, policy: Policy) -> Policy:
    """``policy`` with a disk and a network, each with a label of its own or the same."""
    span = policy.host.span

    def label(name: str) -> ResourceLabel:
        inaccessible = choose.below(6) == 5
        levels = [
            choose.level(lattice) if lattice and not inaccessible else None
            for lattice in (policy.levels, policy.integrity)
        ]
        return ResourceLabel(
            ResourceLabelName(name), choose.some(TYPES), span, levels[0], levels[1], inaccessible,
        )

    labels = [label("x"), label("y")]
    return replace(
        policy, resource_labels={entry.name: entry for entry in labels if entry.name},
        resources=(
            Resource(ResourceKind.DISK, "/dev/x", choose.one(labels), span),
            Resource(ResourceKind.NETWORK, "br-y", choose.one(labels), span),
        ),
    )


def resource_of(label: ResourceLabel) -> model.Label:
    """The same in plain data."""
    def both(level: Level | None) -> model.Range | None:
        point = level and (level.rank, frozenset(map(str, level.categories)))
        return (point, point) if point else None

    return model.Label(
        frozenset(label.coalitions), level=both(label.level), integrity=both(label.integrity),
        uses=frozenset() if label.inaccessible else frozenset({"anything"}),
    )
