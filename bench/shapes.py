"""Policies of any size as values, in the shapes that real ones have."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import Coalition, Enforcement, Host, Label, Policy, Wall
from shype.policy.names import (
    CategoryName,
    CoalitionName,
    LabelName,
    MemberName,
    SensitivityName,
    WallName,
)
from shype.policy.source import Span

#: Labels of one tenant, and VMs of a team that may exchange information at all.
TENANT = 10
TEAM = 100

_NOWHERE = Span("generated.yaml", 1, 1)
_DOM0 = LabelName("dom0")


def tenants(labels: int) -> Policy:
    """Tenants of `TENANT` labels with the same rights, and five hubs that serve all tenants."""
    homes = [CoalitionName(f"t{n}") for n in range(labels // TENANT + 1)]
    hubs = [_label(f"hub{n}", *homes[n::5]) for n in range(5)]
    guests = (_label(f"l{n}", homes[n // TENANT]) for n in range(labels))
    return _policy(labels, [*hubs, *guests], map(_coalition, homes))


def distinct(labels: int) -> Policy:
    """No two labels have the same rights: each has a coalition of its own and its tenant's."""
    names = [CoalitionName(f"own{n}") for n in range(labels)]
    homes = [CoalitionName(f"t{n}") for n in range(labels // TENANT + 1)]
    guests = [_label(f"l{n}", names[n], homes[n // TENANT]) for n in range(labels)]
    return _policy(labels, guests, map(_coalition, [*names, *homes]))


def together(labels: int) -> Policy:
    """Everybody in one coalition with the same rights: one class."""
    one = CoalitionName("all-of-us")
    return _policy(labels, [_label(f"l{n}", one) for n in range(labels)], [_coalition(one)])


def market(labels: int) -> Policy:
    """Tenants that also meet in one coalition: every class has to do with every other."""
    homes = [CoalitionName(f"t{n}") for n in range(labels // TENANT + 1)]
    one = CoalitionName("market")
    guests = [_label(f"l{n}", homes[n // TENANT], one) for n in range(labels)]
    return _policy(labels, guests, map(_coalition, [*homes, one]))


def levels(labels: int) -> Policy:
    """Teams of `TEAM`; four sensitivities, up to three of 64 categories; some switches off."""
    chance = random.Random(labels)
    lattice = Lattice(
        tuple(SensitivityName(f"s{n}") for n in range(4)),
        tuple(CategoryName(f"c{n}") for n in range(64)), _NOWHERE,
    )
    teams = [CoalitionName(f"t{n}") for n in range(labels // TEAM + 1)]
    coalitions = [_coalition(team, _some(chance)) for team in teams]
    guests = []
    for n in range(labels):
        few = n // TEAM % 61  # a team uses few of the categories
        chosen = chance.sample(lattice.categories[few:few + 4], chance.randrange(4))
        level = Level(chance.randrange(4), frozenset(chosen))
        guests.append(_label(
            f"l{n}", teams[n // TEAM], level=LevelRange(level, level), mechanisms=_some(chance)
        ))
    return _policy(labels, guests, coalitions, lattice)


def office(labels: int) -> Policy:
    """Everybody in one coalition, at many levels: four sensitivities, sets of 16 categories."""
    chance = random.Random(labels)
    lattice = Lattice(
        tuple(SensitivityName(f"s{n}") for n in range(4)),
        tuple(CategoryName(f"c{n}") for n in range(16)), _NOWHERE,
    )
    one = CoalitionName("office")
    guests = []
    for n in range(labels):
        level = Level(
            chance.randrange(4), frozenset(chance.sample(lattice.categories, chance.randrange(6)))
        )
        guests.append(_label(f"l{n}", one, level=LevelRange(level, level)))
    return _policy(labels, guests, [_coalition(one)], lattice)


def walled(labels: int) -> Policy:
    """Clients of 20 walls with 50 members each, which meet the firm's own labels."""
    firm = CoalitionName("firm")
    walls = {
        WallName(f"w{w}"): Wall(
            WallName(f"w{w}"), frozenset(MemberName(f"m{w}.{m}") for m in range(50)), _NOWHERE)
        for w in range(20)
    }
    homes = [CoalitionName(f"t{n}") for n in range(1000)]
    guests = [
        replace(
            _label(f"l{n}", homes[n % 1000], *([firm] if n % 10 == 0 else [])),
            members=frozenset({MemberName(f"m{n % 20}.{n // 20 % 50}")} if n % 10 else ()),
        ) for n in range(labels)
    ]
    policy = _policy(labels, guests, map(_coalition, [*homes, firm]))
    return replace(policy, walls=walls)


#: The shapes by name.
SHAPES: Mapping[str, Callable[[int], Policy]] = {
    shape.__name__: shape for shape in (tenants, distinct, together, market, levels)
}
#: Those in which flows are harder to follow than single decisions.
FLOW_SHAPES: Mapping[str, Callable[[int], Policy]] = {
    **SHAPES, office.__name__: office, walled.__name__: walled,
}


def questions(policy: Policy, count: int, seed: int = 1) -> list[tuple[int, int]]:
    """Pairs of indices into the guests of ``policy``, half of them neighbours in the file."""
    chance = random.Random(seed)
    guests = len(policy.guests)

    def draw() -> Iterator[tuple[int, int]]:
        while True:
            one = chance.randrange(guests)
            yield one, chance.randrange(guests)
            yield one, one // TENANT * TENANT + chance.randrange(TENANT)

    return list(islice(((a, b) for a, b in draw() if b < guests), count))


def _some(chance: random.Random) -> frozenset[Mechanism]:
    """All mechanisms, or in one case of four all but one."""
    less = chance.randrange(4) == 0
    return SWITCHABLE - ({chance.choice(sorted(SWITCHABLE))} if less else set())


def _coalition(
    name: CoalitionName, mechanisms: frozenset[Mechanism] = SWITCHABLE
) -> Coalition:
    return Coalition(name, _NOWHERE, mechanisms)


def _label(
    name: str, *coalitions: CoalitionName, level: LevelRange | None = None,
    mechanisms: frozenset[Mechanism] = SWITCHABLE,
) -> Label:
    return Label(
        LabelName(name), frozenset(coalitions), frozenset(), _NOWHERE, level,
        mechanisms=mechanisms,
    )


def _policy(
    labels: int, guests: list[Label], coalitions: Iterable[Coalition],
    lattice: Lattice | None = None,
) -> Policy:
    """The policy of dom0 and ``labels`` of the ``guests``, dom0 in all coalitions."""
    declared = {c.name: c for c in coalitions}
    everybody = [_label(_DOM0, *declared), *guests[:labels]]
    return Policy(
        "generated", "1.0", "generated.yaml", declared, {}, {one.name: one for one in everybody},
        Host(_DOM0, frozenset(), Enforcement.ENFORCING, _NOWHERE), levels=lattice,
    )
