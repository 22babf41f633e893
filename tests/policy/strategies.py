"""Random valid policies, for every test that wants one.

`policies()` draws one of coalitions and walls only, `full_policies()` one that
may have everything else too.  Each draws a `Policy` whose spans are those of
the text that `policy_text.policy_yaml` writes for it, so that reading the text
gives back the very same policy, spans included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import combinations
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from shype.policy.grammar import NAME_LIMIT
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE, Mechanism
from shype.policy.model import (
    Assignment,
    Attestation,
    Coalition,
    Enforcement,
    Guard,
    Host,
    Label,
    Lost,
    Policy,
    Resource,
    ResourceKind,
    ResourceLabel,
    Retired,
    Revocation,
    Updates,
    Vector,
    Verifier,
    Wall,
)
from shype.policy.names import (
    UNLABELED,
    UNLABELED_RESOURCE,
    CategoryName,
    CoalitionName,
    LabelName,
    MemberName,
    ResourceLabelName,
    SensitivityName,
    VectorName,
    VerifierName,
    VmId,
    WallName,
)
from shype.policy.quotas import Amount, Each, Quota, Quotas
from shype.policy.resources import canonical, conflicts, label_key
from shype.policy.source import Span

from .policy_text import layout

#: For tests on a machine that others use too: how long an example takes proves nothing.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: The file name that policies drawn here carry in their spans.
SOURCE = "random.yaml"

#: The day on which no guard drawn here has expired, or does so soon.
TODAY = date(2030, 1, 1)

#: Plain YAML reads these as booleans or null, so the writer must quote them: let them occur.
_TRAPS = ("no", "on", "y", "null", "true", "e1", "off", "yes", "n")

_T = TypeVar("_T", bound=str)

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def names() -> st.SearchStrategy[str]:
    """A valid name; sometimes one that YAML would misread, sometimes one of full length."""
    words = st.text(_ALPHABET + "0123456789", min_size=1, max_size=6)
    made = st.tuples(st.sampled_from(_ALPHABET), st.lists(words, min_size=0, max_size=3)).map(
        lambda parts: "-".join([parts[0], *parts[1]])
    )
    longest = st.text(_ALPHABET, min_size=NAME_LIMIT, max_size=NAME_LIMIT)
    simple = st.text(_ALPHABET, min_size=1, max_size=4)
    return st.one_of(simple, made, st.sampled_from(_TRAPS), longest).filter(
        lambda name: name != "all"
    )


def _distinct(low: int, high: int) -> st.SearchStrategy[list[str]]:
    return st.lists(names(), min_size=low, max_size=high, unique=True)


def vm_ids() -> st.SearchStrategy[str]:
    """A VM's name or UUID."""
    return st.one_of(
        st.uuids().map(str),
        names(),
        st.text(_ALPHABET + "ABC019_.+:@-", max_size=10).map("V".__add__),
    ).filter(lambda vm: vm != "Domain-0")


@st.composite
def policies(
    draw: st.DrawFn, max_labels: int = 6, max_coalitions: int = 5, max_walls: int = 3
) -> Policy:
    """A valid policy with dom0's label and up to ``max_labels`` more.

    Labels may lack coalitions, share members, be driver domains or be named
    ``unlabeled``; conflict sets overlap; dom0 may lack some coalitions.
    """
    nowhere = Span(SOURCE, 1, 1)
    coalitions = [CoalitionName(n) for n in draw(_distinct(1, max_coalitions))]
    pool = [MemberName(n) for n in draw(_distinct(2, 6))]
    walls = [
        Wall(
            WallName(name),
            frozenset(draw(st.lists(st.sampled_from(pool), min_size=2, unique=True))),
            nowhere,
        )
        for name in draw(_distinct(0, max_walls))
    ]
    declared = draw(_distinct(1, max_labels + 1))
    if draw(st.booleans()) and UNLABELED not in declared and len(declared) <= max_labels:
        declared.append(UNLABELED)
    order = draw(st.permutations(declared))
    dom0 = LabelName(draw(st.sampled_from([n for n in order if n != UNLABELED])))
    candidates = [LabelName(n) for n in order if n not in (dom0, UNLABELED)]
    drivers = frozenset(draw(_subset(candidates, 2)))
    labels = {}
    for name in map(LabelName, order):
        everything = name == dom0 or name in drivers
        shares = (
            frozenset(coalitions)
            if everything and draw(st.booleans())
            else frozenset(draw(_subset(coalitions, len(coalitions))))
        )
        members = frozenset() if name == dom0 else _members(draw, walls)
        labels[name] = Label(name, shares, members, nowhere)
    guests = [name for name in labels if name != dom0]
    ids = draw(st.lists(vm_ids(), max_size=4, unique=True)) if guests else []
    version = f"{draw(st.integers(0, 12))}.{draw(st.integers(0, 120))}"
    policy = Policy(
        name=draw(names()),
        version=version,
        source=SOURCE,
        coalitions={name: Coalition(name, nowhere) for name in coalitions},
        walls={wall.name: wall for wall in walls},
        labels=labels,
        host=Host(dom0, drivers, Enforcement.ENFORCING, nowhere),
        assignments={
            VmId(vm): Assignment(VmId(vm), draw(st.sampled_from(guests)), nowhere) for vm in ids
        },
    )
    return layout(policy)[1]


def _subset(items: Sequence[_T], most: int) -> st.SearchStrategy[list[_T]]:
    if not items:
        return st.just([])
    return st.lists(st.sampled_from(list(items)), max_size=most, unique=True)


def _subsets(items: Sequence[_T]) -> list[frozenset[_T]]:
    """All of them, the empty one first; for a handful of items."""
    return [
        frozenset(chosen) for size in range(len(items) + 1)
        for chosen in combinations(items, size)
    ]


def _some(items: Sequence[_T]) -> st.SearchStrategy[frozenset[_T]]:
    """Any subset of a handful of items, in one draw."""
    return st.sampled_from(_subsets(items))


def _members(draw: st.DrawFn, walls: Sequence[Wall]) -> frozenset[MemberName]:
    """Members of conflict sets, at most one of each set."""
    chosen: set[MemberName] = set()
    for member in draw(_subset(sorted({m for wall in walls for m in wall.members}), 3)):
        grown = chosen | {member}
        if all(len(grown & wall.members) < 2 for wall in walls):
            chosen = grown
    return frozenset(chosen)


@st.composite
def full_policies(
    draw: st.DrawFn, max_labels: int = 5, max_coalitions: int = 4, max_walls: int = 2
) -> Policy:
    """As `policies`, and perhaps levels, integrity, guards, mechanisms, resources and renames.

    Driver domains' labels and guards may have ranges.  Valid on `TODAY`.
    """
    plain = draw(policies(max_labels, max_coalitions, max_walls))
    levels = draw(_lattices())
    integrity = draw(_lattices())
    guards = draw(_guards(plain))
    labels = {
        **plain.labels,
        **{
            name: Label(name, frozenset(), _members(draw, list(plain.walls.values())), guard.span)
            for name, guard in guards.items()
        },
    }
    for name, label in labels.items():
        trusted = name in guards or name in plain.host.drivers
        exempt = name == plain.host.dom0
        labels[name] = replace(
            label,
            level=None if exempt else draw(_ranges(levels, trusted=trusted)),
            integrity=None if exempt else draw(_ranges(integrity, trusted=trusted)),
            mechanisms=draw(_mechanisms()),
            object_manager=not exempt and name != UNLABELED and draw(_seldom()),
        )
    # A renamed thing had a name that nothing has now, and nothing else had.
    taken = {*labels, *plain.coalitions, *plain.walls, plain.name}
    free = [name for name in ("old", "no-more", "null", "off", "x1", "past") if name not in taken]
    renamed_kinds = draw(_some(("label", "coalition", "wall", "policy")))
    was = dict(zip(sorted(renamed_kinds), free, strict=False))
    coalitions = {
        name: replace(c, mechanisms=draw(_mechanisms()), write_up=draw(st.booleans()))
        for name, c in plain.coalitions.items()
    }
    walls = dict(plain.walls)
    if "label" in was:
        renamed = draw(st.sampled_from(list(labels)))
        labels[renamed] = replace(labels[renamed], was=LabelName(was["label"]))
    if "coalition" in was:
        chosen = draw(st.sampled_from(list(coalitions)))
        coalitions[chosen] = replace(coalitions[chosen], was=CoalitionName(was["coalition"]))
    if "wall" in was and walls:
        wall = draw(st.sampled_from(list(walls)))
        walls[wall] = replace(walls[wall], was=WallName(was["wall"]))
    assignments = dict(plain.assignments)
    if draw(st.booleans()) and guards:
        vm = VmId(f"vm.of.{len(guards)}")
        assignments[vm] = Assignment(vm, draw(st.sampled_from(list(guards))), plain.host.span)
    kept = draw(_resource_labels(list(coalitions), levels, integrity))
    entries = draw(_resources(list(coalitions), levels, integrity, kept))
    gone = sorted(draw(_some([name for name in free if name not in was.values()][:2])))
    major, minor = (int(part) for part in plain.version.split("."))
    lower = f"{major}.{minor - 1}" if minor else None
    static = draw(st.integers(0, 3)) == 0
    host = plain.host
    if not static and draw(st.booleans()):
        host = replace(host, updates=Updates.LIVE, revocation=draw(st.sampled_from(Revocation)))
    attestation = draw(_attestation()) if draw(_seldom()) else None
    if attestation is not None:
        for name in draw(_some(sorted(labels.keys() - {plain.host.dom0, UNLABELED}))):
            labels[name] = replace(labels[name], attested=True)
    guests = sorted(labels.keys() - {plain.host.dom0})
    quotas = draw(_quotas(guests, sorted(coalitions))) if draw(_seldom()) else None
    vectors = draw(_vectors([*(labels.keys() - {plain.host.dom0})])) if static else {}
    return layout(replace(
        plain, quotas=quotas, attestation=attestation, static=static, host=host, vectors=vectors,
        coalitions=coalitions, walls=walls, labels=labels, guards=guards, levels=levels,
        integrity=integrity, assignments=assignments, was=was.get("policy"),
        replaces=lower if draw(st.booleans()) else None, resource_labels=kept, resources=entries,
        retired={
            LabelName(name): Retired(
                LabelName(name), plain.host.span, draw(_some_members(plain)))
            for name in gone
        },
    ))[1]


def _seldom() -> st.SearchStrategy[bool]:
    return st.integers(0, 3).map(lambda number: number == 3)


@st.composite
def _attestation(draw: st.DrawFn) -> Attestation:
    """One to three verifiers with keys of their own, and what they mean."""
    nowhere = Span(SOURCE, 1, 1)
    chosen = draw(_distinct(1, 3))
    keys = draw(st.lists(st.binary(min_size=32, max_size=32), min_size=len(chosen),
                         max_size=len(chosen), unique=True))
    lost = draw(st.sampled_from(Lost))
    hosts = st.lists(st.sampled_from(["host-b", "10.0.0.2", "c.example"]), min_size=1, unique=True)
    return Attestation(
        {VerifierName(name): Verifier(VerifierName(name), key.hex(), nowhere)
         for name, key in zip(chosen, keys, strict=True)},
        nowhere, draw(st.integers(1, 99_999)), lost,
        tuple(draw(hosts)) if lost is Lost.EVACUATE else (),
    )


@st.composite
def _quotas(
    draw: st.DrawFn, labels: list[LabelName], coalitions: list[CoalitionName]
) -> Quotas:
    """Quotas that hold together: every label has a rate, and what is reserved can be had."""
    nowhere = Span(SOURCE, 1, 1)
    counts = {Amount.VMS: st.integers(1, 99), Amount.VCPUS: st.integers(1, 999),
              Amount.MEMORY: st.integers(1, 999_999),
              Amount.BANDWIDTH: st.integers(1000, 999_999).map(lambda n: n * 1000)}

    def amounts(least: int) -> dict[Amount, int]:
        chosen = draw(_some(list(Amount)))
        return {a: draw(counts[a]) for a in Amount if a in chosen or least}

    def reserved(most: dict[Amount, int]) -> dict[Amount, int]:
        chosen = draw(_some(sorted(most)))
        return {a: 1000 if a is Amount.BANDWIDTH else 1 for a in most if a in chosen}

    def each() -> Each:
        return Each(draw(st.none() | st.integers(1, 99_999)), draw(st.none() | st.integers(1, 999)),
                    draw(st.integers(1, 1000)) * 1000)

    host = Quota(nowhere, {a: n + 99 for a, n in amounts(1).items()} | {Amount.VCPUS: 1100}
                 | {Amount.BANDWIDTH: 900_000_000})
    shared = {}
    for coalition in draw(_some(coalitions)):
        most = amounts(0)
        kept = reserved(most)
        if most:
            shared[coalition] = Quota(nowhere, most, kept)
    owned = {}
    for label in labels:
        most = amounts(0)
        owned[label] = Quota(nowhere, most, reserved(most), each())
    return Quotas(nowhere, host, shared, owned)


@st.composite
def _vectors(draw: st.DrawFn, labels: list[LabelName]) -> dict[VectorName, Vector]:
    """Up to five configuration vectors of some of ``labels``."""
    return {
        VectorName(name): Vector(
            VectorName(name), frozenset(draw(_some(sorted(labels)))), Span(SOURCE, 1, 1))
        for name in draw(_distinct(0, 5))
    }


def _some_members(policy: Policy) -> st.SearchStrategy[frozenset[MemberName]]:
    """Some members of the policy's walls, or none."""
    known = sorted(policy.members)
    return st.frozensets(st.sampled_from(known)) if known else st.just(frozenset())


@st.composite
def _lattices(draw: st.DrawFn) -> Lattice | None:
    if not draw(st.booleans()):
        return None
    return Lattice(
        tuple(SensitivityName(n) for n in draw(_distinct(1, 4))),
        tuple(CategoryName(n) for n in draw(_distinct(0, 4))),
        Span(SOURCE, 1, 1),
    )


def levels_of(lattice: Lattice) -> st.SearchStrategy[Level]:
    """A level of ``lattice``."""
    return st.sampled_from([
        Level(rank, chosen)
        for rank in range(len(lattice.order)) for chosen in _subsets(lattice.categories)
    ])


@st.composite
def _ranges(draw: st.DrawFn, lattice: Lattice | None, *, trusted: bool) -> LevelRange | None:
    if lattice is None:
        return None
    one = draw(levels_of(lattice))
    other = draw(levels_of(lattice)) if trusted and draw(st.booleans()) else one
    return LevelRange(one.meet(other), one.join(other))


def _mechanisms() -> st.SearchStrategy[frozenset[Mechanism]]:
    return st.sampled_from([*[SWITCHABLE, OPENED] * 16, *_subsets(sorted(SWITCHABLE))])


@st.composite
def _guards(draw: st.DrawFn, policy: Policy) -> dict[LabelName, Guard]:
    taken = {*policy.labels, UNLABELED}
    result: dict[LabelName, Guard] = {}
    for name in map(LabelName, draw(_distinct(0, 2))):
        if name in taken or len(policy.coalitions) < 2:
            continue
        source, sink = draw(st.permutations(list(policy.coalitions)))[:2]
        expires = draw(st.none() | st.dates(date(2031, 1, 1), date(2999, 12, 31)))
        reason = draw(st.text("abc .:'\"{}\u00e9", min_size=1, max_size=9).map("r".__add__))
        result[name] = Guard(name, source, sink, reason, expires, policy.host.span)
    return result


def _carries(
    coalitions: list[CoalitionName], levels: Lattice | None, integrity: Lattice | None
) -> st.SearchStrategy[ResourceLabel]:
    """What a resource may carry, without a name."""
    nowhere = Span(SOURCE, 1, 1)
    usable = st.builds(
        ResourceLabel, st.none(), _some(coalitions), st.just(nowhere),
        st.none() if levels is None else levels_of(levels),
        st.none() if integrity is None else levels_of(integrity),
    )
    nobody = st.just(ResourceLabel(None, frozenset(), nowhere, inaccessible=True))
    return st.one_of(usable, usable, nobody)


@st.composite
def _resource_labels(
    draw: st.DrawFn, coalitions: list[CoalitionName], levels: Lattice | None,
    integrity: Lattice | None,
) -> dict[ResourceLabelName, ResourceLabel]:
    chosen = map(ResourceLabelName, draw(_distinct(0, 3)))
    result = {
        name: replace(draw(_carries(coalitions, levels, integrity)), name=name) for name in chosen
    }
    if draw(st.booleans()):
        result[UNLABELED_RESOURCE] = replace(
            draw(_carries(coalitions, levels, integrity)), name=UNLABELED_RESOURCE
        )
    if result and "r-old" not in result and draw(st.booleans()):
        last = list(result)[-1]
        result[last] = replace(result[last], was=ResourceLabelName("r-old"))
    return result


#: Names, patterns and ranges of each kind, some of which meet.
_RESOURCES = {
    ResourceKind.DISK: ("/dev/vg0/a", "/dev/vg0/b", "/dev/vg0/*", "/dev/*/a", "/srv/?.img"),
    ResourceKind.NETWORK: ("br-a", "br-b", "br-*", "*-[ab]", "lan"),
    ResourceKind.PCI: ("03:00.0", "03:00.1", "03:00.*", "0001:3f:1f.7", "04:00.*"),
    ResourceKind.IRQ: ("16", "17", "16-19", "18-23", "0"),
    ResourceKind.IOPORT: ("0x2f8-0x2ff", "0x2f8", "0x2fa", "0x2fc-0x3ff", "0xcf8"),
    ResourceKind.MEMORY: ("0xfed40000", "0xfed40000-0xfed44fff", "0x0-0xfff", "0xfed42000"),
}


def resource_names() -> st.SearchStrategy[tuple[ResourceKind, str]]:
    """A kind, and a name, pattern or range of it in canonical spelling."""
    return st.sampled_from([
        (kind, canonical(kind, text)) for kind, texts in _RESOURCES.items() for text in texts
    ])


@st.composite
def _resources(
    draw: st.DrawFn, coalitions: list[CoalitionName], levels: Lattice | None,
    integrity: Lattice | None, kept: dict[ResourceLabelName, ResourceLabel],
) -> tuple[Resource, ...]:
    """Entries without conflicts: one that would conflict is left out."""
    result: list[Resource] = []
    for kind, pattern in draw(st.lists(resource_names(), max_size=6)):
        label = draw(_carries(coalitions, levels, integrity))
        says_nothing = label == ResourceLabel(None, frozenset(), label.span)
        if says_nothing and not kept:
            continue
        if says_nothing or (kept and draw(st.booleans())):
            label = kept[draw(st.sampled_from(list(kept)))]
        entry = Resource(kind, pattern, label, label.span)
        tried = [(e.kind, e.pattern, label_key(e.label)) for e in (*result, entry)]
        if next(conflicts(tried), None) is None:
            result.append(entry)
    return tuple(result)
