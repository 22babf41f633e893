"""May these labels run together, and if so, by which starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from shype.analysis.walls.coexistence import Separation, Walls
from shype.analysis.walls.placing import place
from shype.analysis.walls.sites import Site, not_dom0
from shype.policy.names import LabelName
from shype.policy.source import Span

#: Obstacles that are listed.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why two labels, or one, do not run: a sentence, the rules, the walls between them."""

    labels: tuple[LabelName, ...]
    sentence: str
    rules: tuple[Span, ...]
    through: tuple[Separation, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "labels": list(self.labels), "reason": self.sentence,
            "rules": [str(span) for span in self.rules],
            "through": [one.to_json() for one in self.through],
        }


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a trace, and what runs on that host after it."""

    host: str
    label: LabelName
    running: tuple[LabelName, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"host": self.host, "start": self.label, "running": list(self.running)}


@dataclass(frozen=True, slots=True)
class Together:
    """Whether VMs of ``labels`` ever run at the same time on the hosts.

    ``possible`` is None if the search ended before it was known.  If it is
    true, ``state`` is what runs on each host in such a state and ``trace`` the
    starts that lead to it, from hosts on which only those run that always do.
    Else ``obstacles`` says what is in the way: labels that start nowhere, and
    the pairs that never share a host (the first 100).
    """

    labels: tuple[LabelName, ...]
    possible: bool | None
    state: Mapping[str, tuple[LabelName, ...]]
    trace: tuple[Start, ...]
    obstacles: tuple[Obstacle, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "labels": list(self.labels), "possible": self.possible,
            "state": {host: list(names) for host, names in self.state.items()},
            "trace": [start.to_json() for start in self.trace],
            "obstacles": [one.to_json() for one in self.obstacles],
        }


def together(walls: Walls, sites: Sequence[Site], labels: Sequence[LabelName]) -> Together:
    """Whether one VM of each of ``labels`` can run at the same time, each on one of ``sites``.

    Raises BadInput ``label.unknown``, and ``walls.dom0`` for dom0's label.
    """
    for label in labels:
        walls.coexist(label, label)  # an unknown label is an error
        not_dom0(walls, label)
    wanted = tuple(dict.fromkeys(labels))
    placed = place(walls, sites, wanted)
    if placed.possible:
        return Together(wanted, True, placed.hosts, tuple(_starts(sites, placed.hosts)), ())
    found = [
        obstacle for label in wanted if not any(s.runs(label) for s in sites)
        for obstacle in _nowhere(sites, label)
    ]
    for a, b in combinations(wanted, 2):
        if len(found) >= _SHOWN:
            break
        if not walls.coexist(a, b):
            decision = walls.server.together(a, b)
            found.append(
                Obstacle((a, b), decision.sentence, decision.rules, walls.separations(a, b))
            )
    return Together(wanted, placed.possible, {}, (), tuple(found))


def _starts(
    sites: Sequence[Site], hosts: Mapping[str, tuple[LabelName, ...]]
) -> list[Start]:
    found = []
    for site in sites:
        running = hosts[site.name]
        first = len(site.always)
        for i in range(first, len(running)):
            found.append(Start(site.name, running[i], running[:i + 1]))
    return found


def _nowhere(sites: Sequence[Site], label: LabelName) -> list[Obstacle]:
    """Why no host may start ``label``, each reason once."""
    refusals = {site.refused[label].sentence: site.refused[label] for site in sites}
    return [Obstacle((label,), why.sentence, why.rules) for why in refusals.values()]
