"""What the rules of the language look at, and what most of them need.

A rule looks at the draft and yields what breaks it.  Rules do not depend on
each other, so that one mistake is one finding: where a section cannot be read
at all, nothing is said about references into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import TypeAlias

from shype.policy import grammar
from shype.policy.draft import Draft, DraftLattice, DraftRange, Ref
from shype.policy.findings import Id, error, show
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.names import CategoryName, SensitivityName
from shype.policy.source import Finding
from shype.policy.suggest import Suggester


@dataclass(frozen=True, slots=True)
class Case:
    """A draft, and the day on which it is judged."""

    draft: Draft
    today: date
    suggest: Suggester = field(default_factory=Suggester)

    def undeclared(
        self, refs: Collection[Ref], declared: Collection[str], id: Id, kind: str, where: str
    ) -> Iterator[Finding]:
        """A finding for each of ``refs`` that is not among the ``declared`` names."""
        for ref in refs:
            if ref.text not in declared:
                yield error(
                    id, ref.span, f"the {kind} {show(ref.text)} is not declared",
                    self.suggest.fix(ref.text, declared, f"declare it under `{where}`"),
                )

    @property
    def vm_labels(self) -> set[str]:
        """The names of all labels that a VM can be assigned, as far as names go."""
        return {label.name.text for label in self.draft.carried}


Rule: TypeAlias = Callable[[Case], Iterator[Finding]]


def lattice(draft: DraftLattice | None) -> Lattice | None:
    """The lattice that ``draft`` declares, or None if a part of it is missing or unreadable."""
    if draft is None or not draft.order or draft.categories is None:
        return None
    return Lattice(
        tuple(SensitivityName(ref.text) for ref in draft.order),
        tuple(CategoryName(ref.text) for ref in draft.categories),
        draft.key.span,
    )


@lru_cache(maxsize=10_000)
def level(points: Lattice, text: str) -> Level | None:
    """The level that ``text`` names in ``points``, or None if it names none.

    Few levels stand in many labels, and `{all}` can be hundreds of categories.
    """
    parsed = grammar.as_level(text)
    if parsed is None:
        return None
    try:
        return points.level(
            parsed.sensitivity, points.categories if parsed.everything else parsed.categories
        )
    except ValueError:
        return None


def level_range(points: Lattice | None, draft: DraftRange | None) -> LevelRange | None:
    """The range (of one level or two) that ``draft`` names in ``points``, or None."""
    if points is None or draft is None or not draft.ends:
        return None
    low, high = level(points, draft.ends[0].text), level(points, draft.ends[-1].text)
    return LevelRange(low, high) if low is not None and high is not None else None
