"""What the Chinese Wall's counters must be, recounted from all that runs each time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set


def running_counts(running: Sequence[Set[str]]) -> dict[str, int]:
    """How many of the running labels hold each member."""
    everyone: Iterable[str] = {member for members in running for member in members}
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
