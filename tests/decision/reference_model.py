"""The decision rules once more, as slow and as plain as the paper states them.

Written from the set semantics (Sailer et al., ACSAC 2005), not from the
implementation: no counters, no bits, no caches. Every function looks at whole
sets and at the whole list of running domains each time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set

from shype.decision.operation import Operation


def may_share(a: Iterable[str], b: Iterable[str]) -> bool:
    """The sharing rule, by looking at every pair of types."""
    theirs = list(b)
    for mine in a:
        for other in theirs:
            if mine == other:
                return True
    return False


def may_authorize(host: Iterable[str], label: Iterable[str]) -> bool:
    """Every type of the label is found among the host's."""
    types = list(host)
    return all(any(mine == needed for mine in types) for needed in label)


def may_communicate(
    types: Mapping[str, Set[str]], dom0: str, a: str, b: str, operation: Operation
) -> bool:
    """A table by who is dom0: (neither), (a), (b), (both)."""
    power = {Operation.FOREIGN_MAP, Operation.CONTROL}
    sharing = set(Operation) - power
    if (a == dom0, b == dom0) == (False, False):
        return operation in sharing and may_share(types[a], types[b])
    never = {Operation.ARGO_SEND}
    if a != dom0:
        never |= power | {Operation.MAP_READ, Operation.MAP_WRITE}
    guest = b if a == dom0 else a
    return operation not in never and may_authorize(types[dom0], types[guest])


def may_start(
    walls: Collection[Set[str]], running: Sequence[Set[str]], new: Set[str]
) -> bool:
    """No running label holds a different member of a conflict set of which ``new`` holds one.

    For labels with at most one member of each conflict set.
    """
    for members in running:
        for wall in walls:
            for theirs in members & wall:
                for mine in new & wall:
                    if theirs != mine:
                        return False
    return True


def running_counts(running: Sequence[Set[str]]) -> dict[str, int]:
    """How many of the running labels hold each member."""
    everyone = {member for members in running for member in members}
    return {member: sum(member in members for members in running) for member in everyone}


def aggregate_counts(walls: Collection[Set[str]], running: Sequence[Set[str]]) -> dict[str, int]:
    """For each member: how many (running label, conflict set) pairs exclude it."""
    result: dict[str, int] = {}
    for member in {member for wall in walls for member in wall}:
        count = 0
        for members in running:
            for wall in walls:
                if member in wall and member not in members and members & wall:
                    count += 1
        if count:
            result[member] = count
    return result
