"""Which labels run together when, so that every pair that may be tried is tried."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

#: Unordered: the same label twice for two guests of one label.
Pair = frozenset[LabelName]


@dataclass(frozen=True, slots=True)
class Round:
    """These run at once, and ``pairs`` of them are tried."""

    labels: tuple[LabelName, ...]
    pairs: frozenset[Pair]


@dataclass(frozen=True, slots=True)
class Plan:
    """``apart``: a wall keeps these from running at once. ``refused``: dom0 runs no such VM."""

    rounds: tuple[Round, ...]
    apart: frozenset[Pair]
    refused: frozenset[LabelName]


def plan(
    server: SecurityServer, labels: Sequence[LabelName], *, at_once: int,
    fixed: Collection[LabelName] = (),
) -> Plan:
    """Few rounds of at most ``at_once`` labels, in each as many pairs as can be.

    ``fixed`` run already and go on running.  A pair of one label needs a second guest of
    it; whether one is started is left to the caller, and it does not count here.
    """
    refused = {name for name in labels if name not in fixed and not _alone(server, name)}
    usable = [name for name in labels if name not in refused]
    left: set[Pair] = set()
    apart: set[Pair] = set()
    for i, a in enumerate(usable):
        for b in usable[i:]:
            if _beside(server, (a,), b):
                left.add(frozenset((a, b)))
            else:
                apart.add(frozenset((a, b)))
    rounds: list[Round] = []
    running = tuple(name for name in usable if name in fixed)
    while left:
        chosen = _round(server, usable, running, left, at_once)
        covered = frozenset(pair for pair in left if pair <= {*chosen})
        if not covered:  # the fixed ones leave no room for what is left
            apart |= left
            break
        rounds.append(Round(chosen, covered))
        left -= covered
    return Plan(tuple(rounds), frozenset(apart), frozenset(refused))


def _round(
    server: SecurityServer, usable: Sequence[LabelName], running: tuple[LabelName, ...],
    left: Collection[Pair], at_once: int,
) -> tuple[LabelName, ...]:
    chosen = running
    while len(chosen) < at_once:
        def gain(name: LabelName, so_far: tuple[LabelName, ...] = chosen) -> int:
            return sum(frozenset((name, other)) in left for other in (*so_far, name))

        def reach(name: LabelName) -> int:
            return sum(name in pair for pair in left)

        possible = [
            name for name in usable if name not in chosen and _beside(server, chosen, name)
            and (gain(name) or not chosen)
        ]
        if not possible:
            break
        chosen = (*chosen, max(possible, key=lambda name: (gain(name), reach(name))))
    return chosen


def _alone(server: SecurityServer, name: LabelName) -> bool:
    return server.launch(name, ()).permitted


def _beside(server: SecurityServer, running: Sequence[LabelName], name: LabelName) -> bool:
    """Whether it may start beside them, whoever of them was first."""
    return server.launch(
        name, [Running(i + 1, str(other), other) for i, other in enumerate(running)]).permitted
