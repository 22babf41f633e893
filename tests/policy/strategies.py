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

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE, Mechanism
from shype.policy.model import (
    Assignment,
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
    Revocation,
    Updates,
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
    VmId,
    WallName,
)
from shype.policy.resources import canonical, conflicts, label_key
from shype.policy.source import Span
from tests.policy.draws import ALPHABET, SOURCE, distinct, names, seldom, some, subset, subsets
from tests.policy.section_strategies import attestation_sections, quota_sections, vector_sections

from .policy_text import layout

#: For tests on a machine that others use too: how long an example takes proves nothing.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: The day on which no guard drawn here has expired, or does so soon.
TODAY = date(2030, 1, 1)

def vm_ids() -> st.SearchStrategy[str]:
    """A VM's name or UUID."""
    return st.one_of(
        st.uuids().map(str),
        names(),
        st.text(ALPHABET + "ABC019_.+:@-", max_size=10).map("V".__add__),
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
    coalitions = [CoalitionName(n) for n in draw(distinct(1, max_coalitions))]
    pool = [MemberName(n) for n in draw(distinct(2, 6))]
    walls = [
        Wall(
            WallName(name),
            frozenset(draw(st.lists(st.sampled_from(pool), min_size=2, unique=True))),
            nowhere,
        )
        for name in draw(distinct(0, max_walls))
    ]
    declared = draw(distinct(1, max_labels + 1))
    if draw(st.booleans()) and UNLABELED not in declared and len(declared) <= max_labels:
        declared.append(UNLABELED)
    order = draw(st.permutations(declared))
    dom0 = LabelName(draw(st.sampled_from([n for n in order if n != UNLABELED])))
    candidates = [LabelName(n) for n in order if n not in (dom0, UNLABELED)]
    drivers = frozenset(draw(subset(candidates, 2)))
    labels = {}
    for name in map(LabelName, order):
        everything = name == dom0 or name in drivers
        shares = (
            frozenset(coalitions)
            if everything and draw(st.booleans())
            else frozenset(draw(subset(coalitions, len(coalitions))))
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


def _members(draw: st.DrawFn, walls: Sequence[Wall]) -> frozenset[MemberName]:
    """Members of conflict sets, at most one of each set."""
    chosen: set[MemberName] = set()
    for member in draw(subset(sorted({m for wall in walls for m in wall.members}), 3)):
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
            object_manager=not exempt and name != UNLABELED and draw(seldom()),
        )
    # A renamed thing had a name that nothing has now, and nothing else had.
    taken = {*labels, *plain.coalitions, *plain.walls, plain.name}
    free = [name for name in ("old", "no-more", "null", "off", "x1", "past") if name not in taken]
    renamed_kinds = draw(some(("label", "coalition", "wall", "policy")))
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
    gone = sorted(draw(some([name for name in free if name not in was.values()][:2])))
    major, minor = (int(part) for part in plain.version.split("."))
    lower = f"{major}.{minor - 1}" if minor else None
    static = draw(st.integers(0, 3)) == 0
    host = plain.host
    if not static and draw(st.booleans()):
        host = replace(host, updates=Updates.LIVE, revocation=draw(st.sampled_from(Revocation)))
    attestation = draw(attestation_sections()) if draw(seldom()) else None
    if attestation is not None:
        for name in draw(some(sorted(labels.keys() - {plain.host.dom0, UNLABELED}))):
            labels[name] = replace(labels[name], attested=True)
    if draw(seldom()):
        for name in draw(some(sorted(labels.keys() - {plain.host.dom0, UNLABELED}))):
            labels[name] = replace(labels[name], vtpm=True)
    guests = sorted(labels.keys() - {plain.host.dom0})
    quotas = draw(quota_sections(guests, sorted(coalitions))) if draw(seldom()) else None
    vectors = draw(vector_sections([*(labels.keys() - {plain.host.dom0})])) if static else {}
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


def _some_members(policy: Policy) -> st.SearchStrategy[frozenset[MemberName]]:
    """Some members of the policy's walls, or none."""
    known = sorted(policy.members)
    return st.frozensets(st.sampled_from(known)) if known else st.just(frozenset())


@st.composite
def _lattices(draw: st.DrawFn) -> Lattice | None:
    if not draw(st.booleans()):
        return None
    return Lattice(
        tuple(SensitivityName(n) for n in draw(distinct(1, 4))),
        tuple(CategoryName(n) for n in draw(distinct(0, 4))),
        Span(SOURCE, 1, 1),
    )


def levels_of(lattice: Lattice) -> st.SearchStrategy[Level]:
    """A level of ``lattice``."""
    return st.sampled_from([
        Level(rank, chosen)
        for rank in range(len(lattice.order)) for chosen in subsets(lattice.categories)
    ])


@st.composite
def _ranges(draw: st.DrawFn, lattice: Lattice | None, *, trusted: bool) -> LevelRange | None:
    if lattice is None:
        return None
    one = draw(levels_of(lattice))
    other = draw(levels_of(lattice)) if trusted and draw(st.booleans()) else one
    return LevelRange(one.meet(other), one.join(other))


def _mechanisms() -> st.SearchStrategy[frozenset[Mechanism]]:
    return st.sampled_from([*[SWITCHABLE, OPENED] * 16, *subsets(sorted(SWITCHABLE))])


@st.composite
def _guards(draw: st.DrawFn, policy: Policy) -> dict[LabelName, Guard]:
    taken = {*policy.labels, UNLABELED}
    result: dict[LabelName, Guard] = {}
    for name in map(LabelName, draw(distinct(0, 2))):
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
        ResourceLabel, st.none(), some(coalitions), st.just(nowhere),
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
    chosen = map(ResourceLabelName, draw(distinct(0, 3)))
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
