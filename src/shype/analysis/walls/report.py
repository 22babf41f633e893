"""Everything that can be said of a policy's walls without a question, as one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.analysis.walls.budget import STEPS
from shype.analysis.walls.coexistence import Separation, Walls
from shype.analysis.walls.maximal import MaximalSets, maximal_sets
from shype.analysis.walls.placing import Needed, needed
from shype.analysis.walls.sites import Refusal, Site
from shype.analysis.walls.starving import Starving, starving
from shype.analysis.walls.vacuous import Finding, FindingId, useless
from shype.analysis.walls.weights import Weights
from shype.base import bits
from shype.decision.wording import listed
from shype.policy.names import LabelName, MemberName


@dataclass(frozen=True, slots=True)
class Starvation:
    """Labels that starve by the same holder: ``found`` is about the first of them."""

    labels: tuple[LabelName, ...]
    found: Starving
    competitors: int

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"labels": list(self.labels), "competitors": self.competitors,
                **{k: v for k, v in self.found.to_json().items() if k != "label"}}


@dataclass(frozen=True, slots=True)
class LeftOver:
    """A retired label whose VM, while it still runs, keeps ``labels`` out."""

    label: LabelName
    members: tuple[MemberName, ...]
    labels: tuple[LabelName, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"label": self.label, "members": list(self.members), "labels": list(self.labels)}


@dataclass(frozen=True, slots=True)
class Report:
    """The answers for one policy and its hosts.

    ``maximal`` and ``needed`` are None where hosts differ: then there is no
    one host to speak of.  ``never``: labels that start on no host, with why.
    """

    sites: tuple[Site, ...]
    classes: int
    maximal: MaximalSets | None
    needed: Needed | None
    starving: tuple[Starvation, ...]
    never: Mapping[LabelName, Refusal]
    left_over: tuple[LeftOver, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, object]:
        """Shape of ``shype walls --json``."""
        return {
            "hosts": [site.name for site in self.sites], "classes": self.classes,
            "maximal": self.maximal and self.maximal.to_json(),
            "needed": self.needed and self.needed.to_json(),
            "starving": [one.to_json() for one in self.starving],
            "never": [
                {"label": label, "reason": why.sentence, "by": why.by,
                 "rules": [str(span) for span in why.rules]}
                for label, why in self.never.items()
            ],
            "left_over": [one.to_json() for one in self.left_over],
            "findings": [finding.to_json() for finding in self.findings],
        }


def report(walls: Walls, sites: Sequence[Site], steps: int = STEPS) -> Report:
    """All answers; ``steps`` bounds each search."""
    chosen = running(walls, sites[0])
    one_kind = all(site.same(sites[0]) for site in sites)
    guests = [guest.name for guest in walls.server.policy.guests]
    never = {
        name: next(site.refused[name] for site in sites if name in site.refused)
        for name in guests
        if not any(site.runs(name) for site in sites) and any(name in s.refused for s in sites)
    }
    blocked = [
        Finding(
            FindingId.NEVER_STARTS, f"{name} never starts: {why.sentence}",
            f"take the member from {name} or from {why.by}, or let {why.by} run elsewhere",
            why.rules,
        )
        for name, why in never.items() if why.by is not None
    ]
    return Report(
        tuple(sites), len(walls.names),
        maximal_sets(walls, chosen, steps) if one_kind else None,
        needed(walls, chosen, steps) if one_kind else None,
        tuple(_starving(walls, sites)), never, tuple(_left_over(walls, sites)),
        (*blocked, *useless(walls, sites)),
    )


def running(walls: Walls, site: Site) -> dict[int, tuple[LabelName, ...]]:
    """By class, the labels of VMs that run on ``site``; classes without any are left out."""
    found = {}
    for number, names in enumerate(walls.names):
        mine = tuple(name for name in names if site.runs(name))
        if mine and not walls.retired >> number & 1:
            found[number] = mine
    return found


def _starving(walls: Walls, sites: Sequence[Site]) -> Iterator[Starvation]:
    """Those that can start somewhere, by class and by the hosts where they may run."""
    weights = _weights(walls, sites)
    for number, names in enumerate(walls.names):
        against = walls.everyone & ~walls.beside[number]
        if walls.retired >> number & 1 or not against:
            continue
        alike: dict[tuple[tuple[bool, bool], ...], list[LabelName]] = {}
        for name in names:
            where = tuple((name in site.open, name in site.always) for site in sites)
            if any(map(any, where)):
                alike.setdefault(where, []).append(name)
        for labels in alike.values():
            found = starving(walls, sites, labels[0])
            if found.starves:
                yield Starvation(tuple(labels), found, weights.of(against))


def _weights(walls: Walls, sites: Sequence[Site]) -> Weights:
    """How many labels of each class may start anywhere."""
    anywhere = frozenset[LabelName]().union(*(site.open for site in sites))
    return Weights([
        0 if walls.retired >> number & 1 else sum(name in anywhere for name in names)
        for number, names in enumerate(walls.names)
    ])


def _left_over(walls: Walls, sites: Sequence[Site]) -> Iterator[LeftOver]:
    for number in bits.each(walls.retired):
        kept = tuple(
            name for other in bits.each(walls.everyone & ~walls.beside[number])
            for name in walls.names[other] if any(name in site.open for site in sites)
        )
        if kept:
            for name in walls.names[number]:
                yield LeftOver(name, tuple(sorted(walls.held[number])), kept)


def separated(through: Sequence[Separation]) -> str:
    """``bank-a from bank-b (wall banks)`` for each."""
    return listed([f"{one.member} from {one.other} (wall {one.wall})" for one in through])
