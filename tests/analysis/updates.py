"""Random updates: two policies over few names, so that much of one is in the other, and a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import permutations
from typing import TypeVar

from hypothesis import strategies as st

from shype.analysis.contexts import Contexts
from shype.analysis.state import Channel, Domain, State
from shype.decision.operation import Flow, Operation
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import (
    Coalition,
    Enforcement,
    Guard,
    Host,
    Label,
    Policy,
    Retired,
    Wall,
)
from shype.policy.names import (
    CategoryName,
    CoalitionName,
    LabelName,
    MemberName,
    SensitivityName,
    WallName,
)
from shype.policy.source import Span

TODAY = date(2030, 1, 1)
HOSTS = [LabelName("host"), LabelName("chief")]
LABELS = [LabelName(n) for n in ("la", "lb", "lc", "ld")]
COALITIONS = [CoalitionName(n) for n in ("ca", "cb", "cc")]
WALLS = [WallName(n) for n in ("wa", "wb")]
MEMBERS = [MemberName(n) for n in ("ma", "mb", "mc")]
_ORDERS = st.sampled_from([*permutations(MEMBERS)])
ORDER = [SensitivityName(n) for n in ("sa", "sb", "sc")]
CATEGORIES = [CategoryName(n) for n in ("ka", "kb")]
_HERE = Span("random.yaml", 1, 1)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Update:
    """Two policies and what runs under the first."""

    old: Policy
    new: Policy
    state: State


def some(items: Sequence[_T], least: int = 0) -> st.SearchStrategy[list[_T]]:
    """Some of ``items``; all of them often. One draw: building policies by many is slow."""
    everything = (1 << len(items)) - 1
    return st.integers(0, 2 * everything).map(
        lambda bits: [x for i, x in enumerate(items) if bits > everything or bits >> i & 1]
    ).map(lambda found: found if len(found) >= least else [*items[:least]])


@st.composite
def updates(draw: st.DrawFn) -> Update:
    """An update of which the parts often fit each other, and as often do not."""
    old = draw(policies("1.0", renaming=False))
    if draw(st.integers(0, 4)) == 0:
        new = draw(policies(draw(st.sampled_from(["1.0", "1.1"])), renaming=True))
    else:
        new = replace(old, version="1.1", replaces="1.0", source="new.yaml")
        for _ in range(draw(st.integers(0, 3))):
            new = draw(edits(new))
    return Update(old, new, draw(states(old)))


@st.composite
def edits(draw: st.DrawFn, policy: Policy) -> Policy:
    """``policy`` with one thing changed."""
    guests = [label.name for label in policy.guests]
    if not guests:
        return policy
    name = draw(st.sampled_from(guests))
    label = policy.labels[name]
    match draw(st.sampled_from(["rename", "drop", "share", "switch", "level", "wall", "order"])):
        case "rename":
            new = LabelName(f"{name}x")
            return renamed(policy, {name: new}, {}, {})
        case "drop" if name not in policy.guards and name not in policy.host.drivers:
            held = draw(st.sampled_from([label.members, frozenset[MemberName]()]))
            tomb = {name: Retired(name, _HERE, held)} if draw(st.booleans()) else {}
            labels = {n: one for n, one in policy.labels.items() if n != name}
            return replace(policy, labels=labels, retired={**policy.retired, **tomb})
        case "share" if name not in policy.guards:
            label = replace(label, coalitions=frozenset(draw(some([*policy.coalitions]))))
        case "switch":
            label = replace(label, mechanisms=draw(_switches()))
        case "level":
            wide = name in policy.guards or name in policy.host.drivers
            label = replace(label, level=draw(_ranges(policy.levels, trusted=wide)))
        case "wall":
            label = replace(label, members=draw(_held({**policy.walls})))
        case "order" if policy.levels is not None:
            order = tuple(draw(st.permutations(policy.levels.order)))
            return reordered(policy, replace(policy.levels, order=order))
    return replace(policy, labels={**policy.labels, name: label})


def reordered(policy: Policy, lattice: Lattice) -> Policy:
    """``policy`` with the same sensitivities in another order; labels keep theirs by name."""
    old = policy.levels
    assert old is not None

    def moved(held: LevelRange | None) -> LevelRange | None:
        if held is None:
            return None
        low, high = (
            Level(lattice.order.index(old.order[end.rank]), end.categories)
            for end in (held.low, held.high)
        )
        return LevelRange(low.meet(high), low.join(high))

    labels = {n: replace(one, level=moved(one.level)) for n, one in policy.labels.items()}
    return replace(policy, levels=lattice, labels=labels)


def renamed(
    policy: Policy, labels: dict[LabelName, LabelName],
    coalitions: dict[CoalitionName, CoalitionName], walls: dict[WallName, WallName],
) -> Policy:
    """``policy`` with other names and the old ones as `was`, unless it says one already."""
    def now(name: CoalitionName) -> CoalitionName:
        return coalitions.get(name, name)

    def label(one: Label) -> Label:
        name = labels.get(one.name, one.name)
        was = one.was if name == one.name or one.was is not None else one.name
        return replace(one, name=name, was=was, coalitions=frozenset(map(now, one.coalitions)))

    made = [label(one) for one in policy.labels.values()]
    guards = [
        replace(g, name=labels.get(g.name, g.name), source=now(g.source), sink=now(g.sink))
        for g in policy.guards.values()
    ]
    return replace(
        policy, labels={one.name: one for one in made}, guards={g.name: g for g in guards},
        coalitions={
            now(n): replace(c, name=now(n), was=n if now(n) != n else c.was)
            for n, c in policy.coalitions.items()
        },
        walls={
            walls.get(n, n): replace(w, name=walls.get(n, n), was=n if n in walls else w.was)
            for n, w in policy.walls.items()
        },
        host=replace(
            policy.host, dom0=labels.get(policy.host.dom0, policy.host.dom0),
            drivers=frozenset(labels.get(n, n) for n in policy.host.drivers),
        ),
    )


@st.composite
def policies(draw: st.DrawFn, version: str, *, renaming: bool) -> Policy:
    """A policy that the language could say."""
    coalitions = {
        name: Coalition(name, _HERE, draw(_switches()), write_up=draw(st.booleans()))
        for name in draw(some(COALITIONS, 2))
    }
    walls = {
        name: Wall(name, frozenset(draw(some(MEMBERS, 2))), _HERE) for name in draw(some(WALLS))
    }
    levels, integrity = draw(_lattices()), draw(_lattices())
    names = draw(some(LABELS, 1))
    guards = draw(st.lists(st.sampled_from(names), max_size=1))
    drivers = frozenset(n for n in draw(st.lists(st.sampled_from(names), max_size=1))
                        if n not in guards)
    dom0 = draw(st.sampled_from(HOSTS))
    others = [name for name in LABELS if name not in names]
    was = draw(_was(names, others)) if renaming else {}
    left = [name for name in others if name not in was.values()]
    labels = {dom0: Label(dom0, frozenset(draw(some([*coalitions]))), frozenset(), _HERE)}
    for name in names:
        trusted = name in guards or name in drivers
        labels[name] = Label(
            name,
            frozenset() if name in guards else frozenset(draw(some([*coalitions]))),
            draw(_held(walls)), _HERE,
            draw(_ranges(levels, trusted=trusted)), draw(_ranges(integrity, trusted=trusted)),
            draw(_switches()), was.get(name),
        )
    return Policy(
        draw(st.sampled_from(["p", "p", "p", "q"])), version, "random.yaml", coalitions, walls,
        labels, Host(dom0, drivers, Enforcement.ENFORCING, _HERE), {}, levels, integrity,
        {name: draw(_guards(name, [*coalitions])) for name in guards}, {}, (),
        {name: Retired(name, _HERE, draw(_held(walls))) for name in draw(some(left))},
        draw(st.sampled_from(["1.0", "1.0", "1.1", None])) if renaming else None,
        draw(st.sampled_from(["p", None])) if renaming else None,
    )


@st.composite
def _was(draw: st.DrawFn, names: list[LabelName], free: list[LabelName]) -> dict[
    LabelName, LabelName
]:
    olds = draw(st.lists(st.sampled_from([*free, LabelName("never")]), unique=True, max_size=2))
    return dict(zip(names, olds, strict=False))


@st.composite
def _held(draw: st.DrawFn, walls: dict[WallName, Wall]) -> frozenset[MemberName]:
    held: set[MemberName] = set()
    for member in draw(_ORDERS)[: draw(st.integers(0, 2))]:
        grown = held | {member}
        declared = any(member in wall.members for wall in walls.values())
        if declared and all(len(grown & wall.members) < 2 for wall in walls.values()):
            held = grown
    return frozenset(held)


@st.composite
def _guards(draw: st.DrawFn, name: LabelName, coalitions: list[CoalitionName]) -> Guard:
    source, sink = draw(st.permutations(coalitions))[:2]
    expires = draw(st.sampled_from([None, None, date(2029, 12, 31), date(2031, 1, 1)]))
    return Guard(name, source, sink, "why", expires, _HERE)


def _switches() -> st.SearchStrategy[frozenset[Mechanism]]:
    return some(sorted(SWITCHABLE)).map(frozenset)


def _lattices() -> st.SearchStrategy[Lattice | None]:
    return st.sampled_from([
        None, Lattice((*ORDER,), (*CATEGORIES,), _HERE), Lattice((*ORDER[:2],), (), _HERE),
        Lattice((*reversed(ORDER),), (*CATEGORIES,), _HERE), Lattice((*ORDER[1:],), (), _HERE),
    ])


@st.composite
def _ranges(draw: st.DrawFn, lattice: Lattice | None, *, trusted: bool) -> LevelRange | None:
    if lattice is None:
        return None
    every = [
        Level(rank, frozenset(c for i, c in enumerate(lattice.categories) if bits >> i & 1))
        for rank in range(len(lattice.order)) for bits in range(1 << len(lattice.categories))
    ]
    a = draw(st.sampled_from(every))
    b = draw(st.sampled_from(every)) if trusted else a
    return LevelRange(a.meet(b), a.join(b))


@st.composite
def states(draw: st.DrawFn, old: Policy) -> State:
    """Domains with labels of ``old`` or strange ones, and perhaps channels between them."""
    carried = [*(label.name for label in old.guests), *old.retired]
    rare = [old.host.dom0, LabelName("strange")]
    names = draw(st.lists(st.sampled_from([*carried, *carried, *carried, *rare]), max_size=3))
    written = contexts(old)
    domains = []
    for domid, name in enumerate(names, 1):
        by_context = name in written.levels and draw(st.booleans())
        text = f"u:r:{written.types[name]}:{written.levels[name]}" if by_context else None
        domains.append(Domain(domid, f"vm{domid}", None if by_context else name, text))
    channels = None
    if draw(st.booleans()):
        ids = [0, *(domain.domid for domain in domains)]
        ends = [(a, b) for a in ids for b in ids if a != b]
        acts: list[Operation | Mechanism] = [
            *(op for op in Operation if op.flow is not Flow.POWER), *sorted(SWITCHABLE),
        ]
        channels = tuple(
            Channel(a, b, draw(st.sampled_from(acts)))
            for a, b in draw(st.lists(st.sampled_from(ends), max_size=2) if ends else st.just([]))
        )
    return State(tuple(domains), channels, draw(st.sampled_from([None, False, False, True])))


def contexts(policy: Policy) -> Contexts:
    """Levels numbered by position, those of integrity after those of confidentiality."""
    whole = sizes(policy)
    return Contexts(
        {name: f"t_{name}" for name in (*policy.labels, *policy.retired)},
        {label.name: numbered(policy, label) for label in policy.guests},
        f"s0-s{whole[0] - 1}" + (f":c0.c{whole[1] - 1}" if whole[1] else ""),
    )


def sizes(policy: Policy) -> tuple[int, int]:
    """How many sensitivities and how many categories this numbering has."""
    categories = 0
    for lattice in (policy.levels, policy.integrity):
        categories += len(lattice.categories) if lattice is not None else 0
    if policy.integrity is not None:
        categories += len(policy.integrity.order)
    return len(policy.levels.order) if policy.levels is not None else 1, categories


def numbered(policy: Policy, label: Label) -> str:
    """The level of a label in this numbering."""
    ends = []
    for end in ("low", "high"):
        rank, held = 0, []
        if policy.levels is not None and label.level is not None:
            level = getattr(label.level, end)
            rank = level.rank
            held += [i for i, c in enumerate(policy.levels.categories) if c in level.categories]
        if policy.integrity is not None and label.integrity is not None:
            level = getattr(label.integrity, end)
            first = len(policy.levels.categories) if policy.levels is not None else 0
            names = [*policy.integrity.categories]
            held += [first + i for i, c in enumerate(names) if c in level.categories]
            held.append(first + len(names) + level.rank)
        ends.append(f"s{rank}" + ("".join([":", ",".join(f"c{i}" for i in held)]) if held else ""))
    return ends[0] if ends[0] == ends[1] else "-".join(ends)
