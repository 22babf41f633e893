"""Launch windows and walls, as a binary policy has them, against the decision code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shype.compile.flask import conditions
from shype.compile.flask.encoding import booleans
from shype.compile.flask.mismatch import Mismatch, short
from shype.compile.flask.reader import Access
from shype.compile.flask.world import World
from shype.decision.chinese_wall import ChineseWall
from shype.policy.names import MemberName

#: Sets of members of which every pair is put to the security server; of more, a sample.
EVERY_PAIR = 200


class Windows:
    """One comparison. ``create`` has dom0's conditional rules for `domain create`, by target."""

    def __init__(self, world: World, create: Mapping[int, Sequence[Access]]) -> None:
        self._world, self._given = world, create
        self._wall = ChineseWall(
            {name: wall.members for name, wall in world.policy.walls.items()}
        )
        self._excluded: dict[frozenset[MemberName], frozenset[MemberName]] = {}

    def mismatches(self) -> Iterator[Mismatch]:
        """All differences."""
        yield from self._windows()
        yield from self._walls()

    def _windows(self) -> Iterator[Mismatch]:
        """dom0 may create a VM iff its window is open, no conflicting member runs, and the
        vector in force (if there are any) has its label."""
        world = self._world
        names = booleans(world.policy, "")
        for target in self._given.keys() - {*world.at.values()}:
            yield self._create(target, "never", "under a condition")
        for label, entry in world.entries.items():
            rules = self._given.get(world.at[label], ())
            if not world.server.authorize(label).permitted:
                if rules:
                    yield self._create(world.at[label], "never", "under a condition")
                continue
            cube = {names.enable: True, **_spelled(names.bits, entry.window)}
            for member in sorted(self._excluding(world.policy.labels[label].members)):
                cube[names.running[member]] = False
            either = []
            for rule in rules:
                tokens = world.binary.expressions[rule.condition]
                either.append(tokens if rule.branch else (*tokens, "!"))
            cubes = [cube]
            if world.policy.vectors:
                cubes = [
                    cube | _spelled(names.vectors, number)
                    for number, vector in enumerate(world.policy.vectors.values())
                    if label in vector.labels
                ]
            yield from self._window(world.at[label], either, cubes)

    def _window(
        self, target: int, either: list[tuple[str, ...]], cubes: Sequence[Mapping[str, bool]]
    ) -> Iterator[Mismatch]:
        wanted = " | ".join(
            " ".join(name if value else f"!{name}" for name, value in cube.items())
            for cube in cubes
        ) or "never"
        got = " | ".join(" ".join(tokens) for tokens in either) or "never"
        try:
            same = conditions.equivalent(either, cubes)
        except (conditions.Undecided, ValueError):
            same, got = False, f"{got} (cannot be decided)"
        if not same:
            yield self._create(target, f"iff {wanted}", f"iff {got}")

    def _create(self, target: int, policy: str, binary: str) -> Mismatch:
        name = self._world.name
        return Mismatch(
            name(self._world.dom0), name(target), "control, domain { create }",
            short(policy), short(binary),
        )

    def _walls(self) -> Iterator[Mismatch]:
        """For every two labels: the members that keep them apart are those the wall names.

        The members were compared label by label before; this asks the security
        server about pairs, so a sample serves when very many sets of members occur.
        """
        samples = {label.members: label.name for label in self._world.policy.guests}
        step = 1 + len(samples) // EVERY_PAIR
        chosen = dict(list(samples.items())[::step])
        for members, name in chosen.items():
            for others, other in chosen.items():
                apart = bool(self._excluding(members) & others)
                together = self._world.server.together(name, other).permitted
                if apart is together:
                    yield Mismatch(name, other, "wall", "together" if together else "apart",
                                   "apart" if apart else "together")

    def _excluding(self, own: frozenset[MemberName]) -> frozenset[MemberName]:
        """Members whose running keeps a label with ``own`` from starting, by the decision code."""
        found = self._excluded.get(own)
        if found is None:
            found = self._excluded[own] = frozenset(
                member for member in self._world.policy.members
                if any(self._wall.excluders(mine, frozenset({member})) for mine in own)
            )
        return found


def _spelled(bits: Sequence[str], index: int) -> dict[str, bool]:
    return {bit: bool(index >> i & 1) for i, bit in enumerate(bits)}
