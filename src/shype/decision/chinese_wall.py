"""The Chinese Wall: of the members of one conflict set, one at a time runs on a host.

The rules are those of sHype's run-time exclusion (Sailer et al., ACSAC 2005):
two counters per member, ``running`` (how many running domains hold it) and
``aggregate`` (how often running domains exclude it). It is deliberately not
the Brewer-Nash model: a domain that stopped leaves no history.

Works on raw sets of members, also on sets that the policy language rejects (two
members of one conflict set in one label); then the outcome depends on the
order of starts, exactly as it did in sHype.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shype.base.errors import Internal
from shype.decision.counts import Counts
from shype.policy.names import MemberName, WallName


class NotRunning(Internal):
    """A domain was to be stopped that the wall's counters do not contain."""


@dataclass(frozen=True, slots=True)
class WallState:
    """The counters of one host; a value. Members whose count is 0 are absent."""

    running: Counts = field(default_factory=Counts)
    aggregate: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A start that the wall forbids: ``members`` are excluded by who runs, through ``walls``."""

    members: tuple[MemberName, ...]
    walls: tuple[WallName, ...]


@dataclass(frozen=True, slots=True)
class ReplayConflict:
    """The first of a sequence that could not start: its index from 0, and the conflict."""

    position: int
    conflict: Conflict


class ChineseWall:
    """The conflict sets. Immutable after construction; every method is a pure function."""

    def __init__(self, conflict_sets: Mapping[WallName, frozenset[MemberName]]) -> None:
        self._sets = dict(conflict_sets)
        self._rank = {wall: rank for rank, wall in enumerate(self._sets)}
        self._walls_of: dict[MemberName, tuple[WallName, ...]] = {}
        for wall, members in self._sets.items():
            for member in members:
                self._walls_of[member] = (*self._walls_of.get(member, ()), wall)

    def start(self, state: WallState, members: frozenset[MemberName]) -> WallState | Conflict:
        """The state after a domain holding ``members`` started, or why it may not start.

        Denied iff a member's aggregate is above zero; nothing changes then.
        """
        excluded = tuple(sorted(m for m in members if state.aggregate.of(m) > 0))
        if excluded:
            return Conflict(excluded, self._blocking(state, excluded))
        return self.account(state, members)

    def stop(self, state: WallState, members: frozenset[MemberName]) -> WallState:
        """The state after such a domain is gone: the exact inverse of `start`.

        Raises NotRunning (``wall.not-running``) if the counters do not contain
        such a domain. A domain without members leaves no trace in the
        counters, so for it nothing can be checked.
        """
        try:
            return WallState(
                state.running.minus(members), state.aggregate.minus(self._excludes(members))
            )
        except ValueError as error:
            raise NotRunning(
                "wall.not-running",
                f"no running domain holds exactly the members {', '.join(sorted(members))}",
                "rebuild the counters from the hypervisor's list of domains",
            ) from error

    def account(self, state: WallState, members: frozenset[MemberName]) -> WallState:
        """Count a domain that already runs, whether or not it may (no check)."""
        return WallState(state.running.plus(members), state.aggregate.plus(self._excludes(members)))

    def count(self, running: Iterable[frozenset[MemberName]]) -> WallState:
        """The counters of domains that already run, whether or not they may (no check)."""
        held: list[MemberName] = []
        excluded: list[MemberName] = []
        for members in running:
            held.extend(members)
            excluded.extend(self._excludes(members))
        return WallState(Counts(held), Counts(excluded))

    def replay(self, sequence: Iterable[frozenset[MemberName]]) -> WallState | ReplayConflict:
        """Start all of ``sequence`` in order on an empty host; stops at the first conflict.

        This is how sHype checked a new policy against the domains that run.
        """
        state = WallState()
        for position, members in enumerate(sequence):
            outcome = self.start(state, members)
            if isinstance(outcome, Conflict):
                return ReplayConflict(position, outcome)
            state = outcome
        return state

    def walls_of(self, members: Iterable[MemberName]) -> tuple[WallName, ...]:
        """The conflict sets that contain any of ``members``, in the policy's order."""
        touched = {wall for member in members for wall in self._walls_of.get(member, ())}
        return tuple(sorted(touched, key=self._rank.__getitem__))

    def excluders(
        self, member: MemberName, members: frozenset[MemberName]
    ) -> tuple[tuple[WallName, MemberName], ...]:
        """Through which walls, and holding what, a domain with ``members`` excludes ``member``.

        Empty iff it does not exclude it. Sorted by the policy's order of walls.
        """
        if member in members:
            return ()
        return tuple(
            (wall, held)
            for wall in self._walls_of.get(member, ())
            for held in sorted(self._sets[wall] & members)
        )

    def excluded(self, members: frozenset[MemberName]) -> frozenset[MemberName]:
        """What no other domain may hold while one runs that holds ``members``."""
        return frozenset(self._excludes(members))

    def _excludes(self, members: frozenset[MemberName]) -> list[MemberName]:
        """One mention of c for every wall C that holds a member of ours, and every c in C not ours.

        A list, not a set: two walls that exclude the same member count twice.
        """
        return [other for wall in self.walls_of(members) for other in self._sets[wall] - members]

    def _blocking(
        self, state: WallState, excluded: tuple[MemberName, ...]
    ) -> tuple[WallName, ...]:
        return tuple(
            wall for wall in self.walls_of(excluded)
            if any(
                state.running.of(other) > 0
                for member in self._sets[wall] & frozenset(excluded)
                for other in self._sets[wall] - {member}
            )
        )
