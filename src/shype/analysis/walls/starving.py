"""Which labels can be kept out for as long as others run, or for ever.

A label starves in a state in which, on every host where it may start, the
wall refuses it.  Nothing in a Chinese Wall makes the others stop: two VMs of a
label that excludes it can take turns for ever.  So whoever can be kept out
once can be kept out for any time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from shype.analysis.walls.budget import STEPS, Budget
from shype.analysis.walls.coexistence import Separation, Walls
from shype.analysis.walls.sites import Refusal, Site, not_dom0
from shype.base import bits
from shype.decision.decision import Decision
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Kept:
    """One host where the label does not start in the blocking state.

    ``by``: the label that runs there; ``decision`` is why both do not run at
    once, ``through`` each wall with the member of ours and the one held there.
    For a host where it never starts, ``never`` says why, and ``by`` is None
    unless who always runs is the reason.
    """

    host: str
    by: LabelName | None
    decision: Decision | None = None
    never: Refusal | None = None
    through: tuple[Separation, ...] = ()

    @property
    def sentence(self) -> str:
        """Why it does not start there."""
        if self.never is not None:
            return self.never.sentence
        assert self.decision is not None
        return self.decision.sentence

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        rules = self.never.rules if self.never is not None else (
            self.decision.rules if self.decision is not None else ())
        return {
            "host": self.host, "by": self.by, "always": self.never is not None,
            "reason": self.sentence, "rules": [str(span) for span in rules],
            "through": [one.to_json() for one in self.through],
        }


@dataclass(frozen=True, slots=True)
class Starving:
    """Whether a label can starve, and a smallest blocking state.

    ``never``: it starts on no host, whatever runs.  ``by``: the fewest labels
    whose VMs keep it out of all hosts (of those that do not run always);
    ``exact`` iff none fewer do.  ``kept`` has one entry per host, empty if it
    cannot starve: then on the host ``free`` it can always start.
    """

    label: LabelName
    never: bool
    by: tuple[LabelName, ...]
    kept: tuple[Kept, ...]
    free: str | None
    exact: bool = True

    @property
    def starves(self) -> bool:
        """Whether it can be kept out of every host."""
        return self.free is None

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output. ``trace`` is the starts that lead to the blocking state."""
        return {
            "label": self.label, "starves": self.starves, "never": self.never,
            "by": list(self.by), "exact": self.exact, "free": self.free,
            "kept": [kept.to_json() for kept in self.kept],
            "trace": [
                {"host": kept.host, "start": kept.by}
                for kept in self.kept if kept.by is not None and kept.never is None
            ],
        }


def starving(
    walls: Walls, sites: Sequence[Site], label: LabelName, steps: int = STEPS
) -> Starving:
    """Whether ``label`` can starve on ``sites``.

    Raises BadInput ``label.unknown``, and ``walls.dom0`` for dom0's label.
    """
    walls.coexist(label, label)  # an unknown label is an error
    not_dom0(walls, label)
    for site in sites:
        if label in site.always:
            return Starving(label, False, (), (), site.name)
    kinds: list[tuple[Site, tuple[LabelName, ...]]] = []
    blockers: dict[str, tuple[LabelName, ...]] = {}
    where = [site for site in sites if label in site.open]
    alone = all(site.same(where[0]) for site in where)
    for site in where:
        known = next((names for other, names in kinds if other.same(site)), None)
        if known is None:
            # Where all hosts are alike, any one competitor keeps it out of all.
            known = tuple(islice(competitors(walls, site, label), 1 if alone else None))
            kinds.append((site, known))
        if not known:
            return Starving(label, False, (), (), site.name)
        blockers[site.name] = known
    by, exact = fewest([names for _, names in kinds], Budget(steps))
    kept = []
    for site in sites:
        if site.name not in blockers:
            refusal = site.refused[label]
            kept.append(Kept(site.name, refusal.by, never=refusal))
            continue
        holder = next(name for name in by if name in blockers[site.name])
        kept.append(Kept(
            site.name, holder, walls.server.together(label, holder),
            through=walls.separations(label, holder),
        ))
    return Starving(label, not blockers, by, tuple(kept), None, exact)


def competitors(walls: Walls, site: Site, label: LabelName) -> Iterator[LabelName]:
    """The labels that may start on ``site`` and exclude ``label`` while they run, by class."""
    row = walls.beside[walls.of[label]]
    for number in bits.each(walls.everyone & ~row & ~walls.retired):
        yield from (name for name in walls.names[number] if name in site.open)


def fewest(
    wanted: Sequence[Iterable[LabelName]], budget: Budget
) -> tuple[tuple[LabelName, ...], bool]:
    """Fewest names with one in each of ``wanted`` (a smallest hitting set), and if it is exact."""
    order: dict[LabelName, int] = defaultdict(int)
    for i, names in enumerate(dict.fromkeys(map(tuple, wanted))):
        for name in names:
            order[name] |= 1 << i
    everything = 0
    for hit in order.values():
        everything |= hit
    greedy = _greedy(order, everything)
    best = greedy
    # Depth first, through the least covered set; only what is shorter than the best so far.
    stack: list[tuple[tuple[LabelName, ...], int]] = [((), everything)]
    while stack:
        chosen, left = stack.pop()
        if not left:
            if len(chosen) < len(best):
                best = chosen
            continue
        if len(chosen) + 1 >= len(best):
            continue
        if not budget.take(len(order)):
            return best, False
        low = left & -left
        stack += [((*chosen, n), left & ~hit) for n, hit in order.items() if hit & low]
    return best, True


def _greedy(order: Mapping[LabelName, int], left: int) -> tuple[LabelName, ...]:
    chosen: tuple[LabelName, ...] = ()
    while left:
        name = max(order, key=lambda n: (order[n] & left).bit_count())
        chosen = (*chosen, name)
        left &= ~order[name]
    return chosen
