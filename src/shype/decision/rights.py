"""What a label may do, apart from its name: labels with the same rights are one class.

Decisions are made between classes, so that their cost grows with the number
of different rights in a policy and not with its labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shype.policy.lattice import LevelRange
from shype.policy.mechanism import Mechanism
from shype.policy.model import Guard, Policy
from shype.policy.names import CoalitionName, LabelName


@dataclass(frozen=True, slots=True)
class Rights:
    """What decides about a label when it meets another.

    ``guard`` is the guard it is; ``dom0`` and ``retired`` say that it is dom0's
    label or a tombstone, ``locked`` that dom0 never reaches
    its memory. ``coalitions`` includes a guard's two.
    """

    coalitions: frozenset[CoalitionName]
    mechanisms: frozenset[Mechanism]
    level: LevelRange | None = None
    integrity: LevelRange | None = None
    guard: Guard | None = None
    dom0: bool = False
    retired: bool = False
    locked: bool = False


def flows(source: Rights, sink: Rights) -> bool:
    """Whether the levels let information move from ``source`` to ``sink``.

    Bell-LaPadula: the sink's level dominates the source's; Biba: the source's
    integrity dominates the sink's.  A range takes part with the end that is
    the more permissive, because its carrier is trusted to keep levels apart.
    """
    return confidential(source, sink) and intact(source, sink)


def confidential(source: Rights, sink: Rights) -> bool:
    """Bell-LaPadula alone."""
    if source.level is None or sink.level is None:
        return True
    return sink.level.high.dominates(source.level.low)


def intact(source: Rights, sink: Rights) -> bool:
    """Biba alone."""
    if source.integrity is None or sink.integrity is None:
        return True
    return source.integrity.high.dominates(sink.integrity.low)


class Classes:
    """The classes of a policy's labels, numbered from 0, and who is in them."""

    def __init__(self, policy: Policy) -> None:
        numbers: dict[Rights, int] = {}
        self.of: dict[LabelName, int] = {
            name: numbers.setdefault(rights, len(numbers)) for name, rights in _all(policy)
        }
        self.rights: tuple[Rights, ...] = tuple(numbers)
        self.in_coalition: Mapping[CoalitionName, list[int]] = {c: [] for c in policy.coalitions}
        for number, rights in enumerate(self.rights):
            for coalition in rights.coalitions if not rights.dom0 else ():
                self.in_coalition[coalition].append(number)


def _all(policy: Policy) -> Iterator[tuple[LabelName, Rights]]:
    for name, label in policy.labels.items():
        yield name, Rights(
            policy.coalitions_of(name), label.mechanisms, label.level, label.integrity,
            policy.guards.get(name), dom0=name == policy.host.dom0, locked=label.locked,
        )
    for name in policy.retired:
        yield name, Rights(frozenset(), frozenset(), retired=True)
