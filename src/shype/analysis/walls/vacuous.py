"""Walls that refuse nothing, or nothing that others do not refuse as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shype.analysis.walls.coexistence import Walls
from shype.analysis.walls.sites import Site
from shype.base import bits
from shype.decision import wording
from shype.policy.names import LabelName, MemberName, WallName
from shype.policy.source import Span


class FindingId(StrEnum):
    """What can be found; docs/reference/walls.md explains each. The values are stable."""

    VACUOUS = "walls.vacuous"
    IMPLIED = "walls.implied"
    UNUSED_MEMBER = "walls.unused-member"
    NEVER_STARTS = "walls.never-starts"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a policy: a sentence, the fix, and the rules that it follows from."""

    id: FindingId
    sentence: str
    fix: str
    rules: tuple[Span, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"id": self.id, "message": self.sentence, "fix": self.fix,
                "rules": [str(span) for span in self.rules]}


def useless(walls: Walls, sites: Sequence[Site]) -> tuple[Finding, ...]:
    """The walls that could be deleted, and the members that nobody holds, in file order.

    A wall is vacuous if it can never refuse a start: no two of its members
    are held by labels that run on one of ``sites``, or by a retired label that
    may still run and a label that may start.  It is implied if other walls
    refuse every start that it refuses.  Of walls that imply each other, the
    last are reported: all reported walls together can be deleted and nothing
    changes for the labels that there are.
    """
    return tuple(_Search(walls, sites).findings())


class _Search:
    def __init__(self, walls: Walls, sites: Sequence[Site]) -> None:
        self._walls = walls
        self._sites = sites
        self._policy = walls.server.policy
        #: For each kind of host, the classes that run there and those that start there.
        self._worlds = [
            (bits.of(n for n, names in enumerate(walls.names) if any(map(one.runs, names)))
             | walls.retired)
            for i, one in enumerate(sites) if not any(map(one.same, sites[:i]))
        ]

    def findings(self) -> Iterator[Finding]:
        policy = self._policy
        vacuous = {name for name in policy.walls if not self._refuses(name)}
        kept = [name for name in policy.walls if name not in vacuous]
        implied: dict[WallName, tuple[WallName, ...]] = {}
        for name in reversed(tuple(kept)):
            others = [other for other in kept if other != name]
            through = self._covered(name, others)
            if through is not None:
                implied[name] = through
                kept = others
        for name, wall in policy.walls.items():
            if name in vacuous:
                yield self._vacuous(name)
            elif name in implied:
                others = list(implied[name])
                yield Finding(
                    FindingId.IMPLIED,
                    f"the wall {name} refuses nothing that {wording.walls(others)} "
                    f"{'does' if len(others) == 1 else 'do'} not refuse as well",
                    f"delete {name}, unless labels are to come that only it separates",
                    (wall.span, *(policy.walls[other].span for other in others)),
                )
            unused = sorted(m for m in wall.members if not self._walls.holders[m])
            if unused and name not in vacuous:
                yield Finding(
                    FindingId.UNUSED_MEMBER,
                    f"no label holds {wording.listed(unused)} of the wall {name}",
                    "give it to a label, or delete it there", (wall.span,),
                )

    def _excluded(self, name: WallName, number: int, world: int) -> int:
        """Who never starts in ``world`` by the wall ``name`` while class ``number`` runs."""
        return self._walls.excluded_by(name, number) & world & ~self._walls.retired

    def _holders(self, name: WallName) -> int:
        found = 0
        for member in self._policy.walls[name].members:
            found |= self._walls.holders[member]
        return found

    def _refuses(self, name: WallName) -> bool:
        holders = self._holders(name)
        return any(
            self._excluded(name, number, world)
            for world in self._worlds for number in bits.each(holders & world)
        )

    def _covered(
        self, name: WallName, others: Sequence[WallName]
    ) -> tuple[WallName, ...] | None:
        """Walls of ``others`` that refuse all that ``name`` refuses, or None."""
        used: dict[WallName, None] = {}
        touching = {other: self._holders(other) for other in others}
        for world in self._worlds:
            for number in bits.each(self._holders(name) & world):
                left = self._excluded(name, number, world)
                for other, holders in touching.items():
                    if not left:
                        break
                    if holders >> number & 1:
                        less = left & ~self._excluded(other, number, world)
                        if less != left:
                            used[other] = None
                            left = less
                if left:
                    return None
        return tuple(other for other in others if other in used)

    def _vacuous(self, name: WallName) -> Finding:
        walls, wall = self._walls, self._policy.walls[name]
        retired = self._policy.retired
        held = sorted(m for m in wall.members if walls.holders[m])
        running = self._held(wall.members, self._runs)
        rules: tuple[Span, ...] = (wall.span,)
        fix = "give its members to labels, or delete it"
        if not held:
            why = "no label holds a member of it"
        elif len(held) == 1:
            labels = self._names(walls.holders[held[0]], lambda _: True)
            why = (f"only {held[0]} is held, by {wording.listed(labels)}; of the other members "
                   f"({wording.listed(sorted(wall.members - {held[0]}))}) no label holds any")
            rules += tuple(self._span(label) for label in labels[:1])
        elif len(running) < 2:
            idle = [
                label for m in held if m not in running
                for label in self._names(walls.holders[m], lambda _: True)
            ]
            what = f"only {running[0]} is held by a label" if running else "no label is left"
            why = f"{what} that ever runs: {wording.listed(idle)} never " + (
                "starts" if len(idle) == 1 else "start")
            refusals = [site.refused[label] for site in self._sites for label in idle
                        if label in site.refused]
            rules += tuple(span for refusal in refusals[:1] for span in refusal.rules)
            fix = "let the labels run, or delete the wall"
        elif len(self._held(wall.members, lambda n: self._runs(n) and n not in retired)) < 2:
            both = [n for n, tomb in retired.items() if len(tomb.members & wall.members) > 1]
            why = (f"the retired {wording.listed(both)} holds several of its members, and excludes "
                   "nobody by those that it holds itself")
            fix = "delete it once no VM carries a retired label"
        else:
            why = "its members are held by labels that have no host in common"
            fix = "delete it, unless these hosts may change"
        return Finding(
            FindingId.VACUOUS, f"the wall {name} can never refuse a start: {why}", fix,
            tuple(dict.fromkeys(rules)),
        )

    def _held(
        self, members: frozenset[MemberName], who: Callable[[LabelName], bool]
    ) -> list[MemberName]:
        return sorted(m for m in members if self._names(self._walls.holders[m], who))

    def _names(self, classes: int, who: Callable[[LabelName], bool]) -> list[LabelName]:
        return [n for c in bits.each(classes) for n in self._walls.names[c] if who(n)]

    def _runs(self, label: LabelName) -> bool:
        return label in self._policy.retired or any(site.runs(label) for site in self._sites)

    def _span(self, label: LabelName) -> Span:
        policy = self._policy
        return (policy.labels.get(label) or policy.retired[label]).span
