"""How a policy's levels become the hypervisor's: confidentiality and integrity in one.

The hypervisor compares one level, by `dom`.  A policy has two lattices in
which information flows in opposite directions: up in confidentiality, down in
integrity.  So integrity is written inverted, as categories: one per step of
the order that a level does *not* reach, and one per category that it does not
hold.  Then "b dominates a" in the hypervisor means that information may flow
from a to b in both lattices.
"""

from __future__ import annotations

from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.policy.lattice import Level, LevelRange
from shype.policy.model import Label, Policy


def sensitivities(policy: Policy) -> int:
    """How many sensitivities the compiled policy has; at least one."""
    return len(policy.levels.order) if policy.levels else 1


def categories(policy: Policy) -> int:
    """How many categories the compiled policy has, those of the inverted integrity included."""
    count = len(policy.levels.categories) if policy.levels else 0
    if policy.integrity:
        count += len(policy.integrity.order) - 1 + len(policy.integrity.categories)
    return count


def whole(policy: Policy) -> MlsRange:
    """Every level there is: dom0's range."""
    top = MlsLevel(sensitivities(policy) - 1, (1 << categories(policy)) - 1)
    return MlsRange(MlsLevel(0), top)


def encoded(policy: Policy, level: Level | None, integrity: Level | None) -> MlsLevel:
    """One level for a pair of levels; None where the policy has no such lattice."""
    rank = mask = offset = 0
    if policy.levels is not None:
        assert level is not None, "the loader gives every VM's label a level"
        rank = level.rank
        for i, name in enumerate(policy.levels.categories):
            mask |= (name in level.categories) << i
        offset = len(policy.levels.categories)
    if policy.integrity is not None:
        assert integrity is not None, "the loader gives every VM's label an integrity"
        steps = len(policy.integrity.order) - 1
        for step in range(1, steps + 1):
            mask |= (integrity.rank < step) << offset + step - 1
        for i, name in enumerate(policy.integrity.categories):
            mask |= (name not in integrity.categories) << offset + steps + i
    return MlsLevel(rank, mask)


def range_of(policy: Policy, label: Label) -> MlsRange:
    """The range of a VM's label. Information may flow into it iff its high end dominates.

    That is its highest confidentiality with its lowest integrity.
    """
    level, integrity = label.level, label.integrity
    return MlsRange(
        encoded(policy, level.low if level else None, integrity.high if integrity else None),
        encoded(policy, level.high if level else None, integrity.low if integrity else None),
    )


def trusted(policy: Policy, label: Label) -> bool:
    """Whether the label is a guard or keeps several levels apart.

    What such a label may do cannot be read off two levels, so it takes no part
    in the constraints and has rules of its own.
    """
    return label.name in policy.guards or _ranged(label.level) or _ranged(label.integrity)


def _ranged(levels: LevelRange | None) -> bool:
    return levels is not None and not levels.single
