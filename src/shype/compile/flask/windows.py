"""Launch windows and walls, as a binary policy has them, against the decision code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shype.compile.flask import conditions, expected
from shype.compile.flask.effective import Right
from shype.compile.flask.encoding import booleans
from shype.compile.flask.mismatch import Mismatch, short
from shype.compile.flask.reader import Access
from shype.compile.flask.world import World
from shype.decision.chinese_wall import ChineseWall
from shype.policy.manifest import BOOT_MANAGER
from shype.policy.names import LabelName, MemberName

#: Sets of members of which every pair is put to the security server; of more, a sample.
EVERY_PAIR = 200
CREATE: Right = ("domain", "create")


class Windows:
    """One comparison. ``given`` has dom0's conditional rules, by target and permission."""

    def __init__(
        self, world: World, given: Mapping[int, Mapping[Right, Sequence[Access]]]
    ) -> None:
        self._world, self._given = world, given
        self._inside = {
            False: frozenset({CREATE}), True: frozenset({CREATE, *_building(world)}),
        }
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
        vector in force (if there are any) has its label.

        So it is with whatever else building takes, if the label is locked.
        """
        world = self._world
        for target in self._given.keys() - {*world.at.values()}:
            yield from self._never(target)
        for label, entry in world.entries.items():
            target = world.at[label]
            if label != world.policy.host.manager and not world.server.authorize(label).permitted:
                yield from self._never(target)
                continue
            cubes = [*self._cubes(label, entry.window)]
            wanted = self._inside[bool(world.locked >> target & 1)]
            if label == world.policy.host.manager:
                wanted |= {("domain", name) for name in expected.DOM0_ENDS["domain"]}
            given = self._given.get(target, {})
            yield from self._never(target, given.keys() - wanted)
            for right in sorted(wanted):
                yield from self._window(target, right, given.get(right, ()), cubes)

    def _cubes(self, label: LabelName, window: int) -> Iterator[dict[str, bool]]:
        policy, names = self._world.policy, booleans(self._world.policy, "")
        if label == policy.host.manager:
            yield {BOOT_MANAGER: True}
            return
        cube = {names.enable: True, **_spelled(names.bits, window)}
        for member in sorted(self._excluding(policy.labels[label].members)):
            cube[names.running[member]] = False
        if not policy.vectors:
            yield cube
        for number, vector in enumerate(policy.vectors.values()):
            if label in vector.labels:
                yield cube | _spelled(names.vectors, number)

    def _window(
        self, target: int, right: Right, rules: Sequence[Access],
        cubes: Sequence[Mapping[str, bool]],
    ) -> Iterator[Mismatch]:
        either = []
        for rule in rules:
            tokens = self._world.binary.expressions[rule.condition]
            either.append(tokens if rule.branch else (*tokens, "!"))
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
            yield self._differs(target, right, f"iff {wanted}", f"iff {got}")

    def _never(self, target: int, rights: Iterable[Right] | None = None) -> Iterator[Mismatch]:
        for right in sorted(self._given.get(target, ()) if rights is None else rights):
            yield self._differs(target, right, "never", "under a condition")

    def _differs(self, target: int, right: Right, policy: str, binary: str) -> Mismatch:
        name, mechanism = self._world.name, expected.MECHANISM_OF.get(right[0])
        what = f"{right[0]} {{ {right[1]} }}"
        return Mismatch(
            name(self._world.dom0), name(target), f"{mechanism}, {what}" if mechanism else what,
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


def _building(world: World) -> Iterator[Right]:
    """What dom0 may do to an unlocked label's VMs and not to a locked one's."""
    for mechanism, grants in expected.DOM0_ON_VM.items():
        kept = expected.DOM0_ON_LOCKED[mechanism]
        for cls, permissions in grants.items():
            known = frozenset(world.tables.classes[cls])
            yield from ((cls, name) for name in permissions & known - kept.get(cls, frozenset()))
