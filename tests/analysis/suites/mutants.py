"""A policy with one rule changed, in every way that somebody might change one by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from shype.policy.lattice import Level, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE
from shype.policy.model import Guard, Label, Policy
from shype.policy.names import CoalitionName, LabelName


def mutants(policy: Policy) -> Iterator[tuple[str, Policy]]:
    """What was changed, in words, and the policy then. Names stay as they are."""
    yield from _labels(policy)
    yield from _coalitions(policy)
    yield from _walls(policy)
    yield from _levels(policy)
    yield from _guards(policy)
    yield from _resources(policy)


def _with(policy: Policy, label: Label) -> Policy:
    return replace(policy, labels={**policy.labels, label.name: label})


def _labels(policy: Policy) -> Iterator[tuple[str, Policy]]:
    for label in policy.labels.values():
        name = label.name
        for coalition in label.coalitions:
            less = replace(label, coalitions=label.coalitions - {coalition})
            yield f"{name} leaves {coalition}", _with(policy, less)
        if name in policy.guards or name == policy.host.dom0:
            continue
        for coalition in policy.coalitions.keys() - label.coalitions:
            more = replace(label, coalitions=label.coalitions | {coalition})
            yield f"{name} joins {coalition}", _with(policy, more)
        for mechanism in SWITCHABLE - label.mechanisms:
            on = replace(label, mechanisms=label.mechanisms | {mechanism})
            yield f"{name} switches {mechanism} on", _with(policy, on)
        for member in label.members:
            less = replace(label, members=label.members - {member})
            yield f"{name} does not hold {member}", _with(policy, less)


def _coalitions(policy: Policy) -> Iterator[tuple[str, Policy]]:
    for name, coalition in policy.coalitions.items():
        changed = {
            **{f"opens {m}": replace(coalition, mechanisms=coalition.mechanisms | {m})
               for m in SWITCHABLE - coalition.mechanisms},
            "writes up" if not coalition.write_up else "does not write up":
                replace(coalition, write_up=not coalition.write_up),
        }
        if coalition.mechanisms != OPENED:
            changed |= {f"closes {m}": replace(coalition, mechanisms=coalition.mechanisms - {m})
                        for m in coalition.mechanisms}
        for what, new in changed.items():
            if "write" in what and policy.levels is None and policy.integrity is None:
                continue
            yield f"{name} {what}", replace(policy, coalitions={**policy.coalitions, name: new})


def _walls(policy: Policy) -> Iterator[tuple[str, Policy]]:
    for name, wall in policy.walls.items():
        for member in wall.members:
            less = replace(wall, members=wall.members - {member})
            yield f"{name} without {member}", replace(policy, walls={**policy.walls, name: less})


def _levels(policy: Policy) -> Iterator[tuple[str, Policy]]:
    """Two sensitivities change places: the ranks of all who have them do."""
    if policy.levels is None:
        return
    for rank in range(len(policy.levels.order) - 1):
        def swap(level: Level, rank: int = rank) -> Level:
            return replace(level, rank={rank: rank + 1, rank + 1: rank}.get(level.rank, level.rank))

        def both(held: LevelRange | None, swap: object = swap) -> LevelRange | None:
            return held and LevelRange(swap(held.low), swap(held.high))  # type: ignore[operator]

        yield f"levels {rank} and {rank + 1} swapped", replace(
            policy,
            labels={n: replace(label, level=both(label.level)) for n, label in
                    policy.labels.items()},
        )
    for label in policy.labels.values():
        if label.level is not None and label.level.single:
            level = label.level.low
            for category in level.categories:
                less = replace(level, categories=level.categories - {category})
                yield f"{label.name} without {category}", _with(
                    policy, replace(label, level=LevelRange(less, less)))


def _guards(policy: Policy) -> Iterator[tuple[str, Policy]]:
    def other(guard: Guard) -> Policy:
        return replace(policy, guards={**policy.guards, guard.name: guard})

    for guard in policy.guards.values():
        label = policy.labels[guard.name]
        yield f"{guard.name} turned round", other(
            replace(guard, source=guard.sink, sink=guard.source))
        for coalition in policy.coalitions.keys() - {guard.source, guard.sink}:
            yield f"{guard.name} takes from {coalition}", other(replace(guard, source=coalition))
            yield f"{guard.name} gives to {coalition}", other(replace(guard, sink=coalition))
        for mechanism in SWITCHABLE - label.mechanisms:
            more = replace(label, mechanisms=label.mechanisms | {mechanism})
            yield f"{guard.name} uses {mechanism}", _with(policy, more)
        if guard.expires is not None:
            yield f"{guard.name} does not expire", other(replace(guard, expires=None))
            yield f"{guard.name} has expired", other(replace(guard, expires=date(2020, 1, 1)))


def _resources(policy: Policy) -> Iterator[tuple[str, Policy]]:
    for index, entry in enumerate(policy.resources):
        rest = policy.resources[:index] + policy.resources[index + 1:]
        yield f"{entry.kind} {entry.pattern} forgotten", replace(policy, resources=rest)
        if entry.label.inaccessible:
            open_ = replace(entry, label=replace(entry.label, inaccessible=False))
            yield f"{entry.kind} {entry.pattern} accessible", replace(
                policy, resources=(*rest, open_))
        for name in {*policy.coalitions} - entry.label.coalitions:
            wide = replace(entry, label=replace(
                entry.label, coalitions=entry.label.coalitions | {CoalitionName(name)}))
            yield f"{entry.kind} {entry.pattern} for {name} too", replace(
                policy, resources=(*rest, wide))


def names(policy: Policy) -> list[LabelName]:
    """Its labels."""
    return [*policy.labels]
