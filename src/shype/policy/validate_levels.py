"""Rules about the two lattices, `levels` and `integrity`, and the levels that labels have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shype.policy import grammar
from shype.policy.draft import DraftLattice, DraftRange, DraftResourceLabel, Ref
from shype.policy.findings import Id, error, show
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule, lattice, level_range
from shype.policy.schema import LEVEL_FIX
from shype.policy.source import Finding


@dataclass(frozen=True, slots=True)
class _Holder:
    """Whatever has levels: its name, how to speak of it, its range in one of the lattices.

    ``single``: it must have one level, and not a range (None: nothing can be said).
    ``exempt``: it has none (None: nothing can be said).
    """

    name: Ref
    what: str
    range: DraftRange | None
    single: bool | None
    exempt: bool | None = False


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two lattices: its section, the key in labels, who has levels, what is declared."""

    section: str
    key: str
    lattice: DraftLattice | None
    holders: tuple[_Holder, ...]
    sensitivities: dict[str, None]
    categories: dict[str, None]


def _sides(case: Case) -> tuple[_Side, _Side]:
    draft = case.draft
    return (
        _side("levels", "level", draft.levels, _holders(case, confidential=True)),
        _side("integrity", "integrity", draft.integrity, _holders(case, confidential=False)),
    )


def _side(
    section: str, key: str, draft: DraftLattice | None, holders: Iterator[_Holder]
) -> _Side:
    order = draft.order if draft is not None else None
    categories = draft.categories if draft is not None else None
    return _Side(
        section, key, draft, tuple(holders), dict.fromkeys(ref.text for ref in order or ()),
        dict.fromkeys(ref.text for ref in categories or ()),
    )


def _holders(case: Case, *, confidential: bool) -> Iterator[_Holder]:
    draft = case.draft
    labels = draft.labels or {}
    drivers = None if draft.drivers is None else {ref.text for ref in draft.drivers}
    if drivers is not None and not drivers <= labels.keys() - {UNLABELED}:
        drivers = None  # a misspelled label of the host is one mistake, and another rule tells it
    boss = draft.dom0.text if draft.dom0 is not None and draft.dom0.text in labels else None
    for name, label in labels.items():
        yield _Holder(
            label.name, f"the label {show(name)}", label.level if confidential else label.integrity,
            single=None if drivers is None else name not in drivers,
            exempt=None if boss is None else name == boss,
        )
    for name, guard in draft.guards.items():
        levels = guard.label.level if confidential else guard.label.integrity
        yield _Holder(guard.label.name, f"the guard {show(name)}", levels, single=False)
    for name, kept in (draft.resource_labels or {}).items():
        yield _resource(kept, f"the resource label {show(name)}", confidential)
    for entry in draft.resources:
        if entry.inline.said and entry.label is None:
            yield _resource(entry.inline, "the resource", confidential)


def _resource(label: DraftResourceLabel, what: str, confidential: bool) -> _Holder:
    levels = label.level if confidential else label.integrity
    # What is inaccessible has no levels, which is another rule's matter.
    return _Holder(
        label.name, what, levels, single=True,
        exempt=None if label.inaccessible is not None else False,
    )


def lattices_have_names_of_their_own(case: Case) -> Iterator[Finding]:
    """``all`` stands for every category and cannot name one."""
    for draft in (case.draft.levels, case.draft.integrity):
        for ref in (draft.categories or ()) if draft is not None else ():
            if ref.text == grammar.ALL:
                yield error(
                    Id.NAME_RESERVED, ref.span,
                    "no category can be named `all`, the word for every category",
                    "choose another name",
                )


def levels_are_declared(case: Case) -> Iterator[Finding]:
    """A level is spelled as one, and its sensitivity and categories are declared."""
    for side in _sides(case):
        for holder in side.holders if side.lattice is not None else ():
            for end in holder.range.ends if holder.range is not None else ():
                yield from _level(case, side, end)


def _level(case: Case, side: _Side, end: Ref) -> Iterator[Finding]:
    assert side.lattice is not None
    if not 0 < len(end.text) <= grammar.LEVEL_LIMIT:
        return  # the structure's findings say so
    parsed = grammar.as_level(end.text)
    if parsed is None:
        yield error(Id.LEVEL_SYNTAX, end.span, f"{show(end.text)} is not a level", LEVEL_FIX)
        return
    if side.lattice.order:
        yield from case.undeclared(
            [Ref(parsed.sensitivity, end.span)], side.sensitivities,
            Id.LEVEL_UNDECLARED, "sensitivity", f"{side.section}.order",
        )
    if side.lattice.categories is None:
        return
    seen: set[str] = set()
    for name in parsed.categories:
        if name in seen:
            yield error(
                Id.LIST_DUPLICATE, end.span,
                f"{show(name)} stands in the level {show(end.text)} a second time",
                "delete one of the two",
            )
        elif name == grammar.ALL:
            yield error(
                Id.NAME_RESERVED, end.span,
                "`all` stands for every category, and not beside others",
                f"write `{parsed.sensitivity} {{all}}`, or name the categories",
            )
        else:
            yield from case.undeclared(
                [Ref(name, end.span)], side.categories, Id.CATEGORY_UNDECLARED, "category",
                f"{side.section}.categories",
            )
        seen.add(name)


def every_label_has_a_level(case: Case) -> Iterator[Finding]:
    """With a lattice, every label but dom0's has a place in it."""
    for side in _sides(case):
        for holder in side.holders if side.lattice is not None else ():
            if holder.range is None and holder.exempt is False:
                lowest = side.lattice.order[0].text if side.lattice and side.lattice.order else None
                example = f" (the lowest is {show(lowest)})" if lowest else ""
                yield error(
                    Id.LEVEL_MISSING, holder.name.span,
                    f"{holder.what} has no `{side.key}`, and the policy has `{side.section}`",
                    f"add `{side.key}:` with one of its levels{example}",
                )


def no_level_without_a_lattice(case: Case) -> Iterator[Finding]:
    """Without a lattice, no label has a level. Said once: what is missing is one section."""
    for side in _sides(case):
        having = [holder for holder in side.holders if holder.range is not None]
        if side.lattice is not None or not having:
            continue
        first = having[0]
        assert first.range is not None
        others = f", and so have {len(having) - 1} others," if len(having) > 2 else (
            ", and so has another," if len(having) == 2 else ",")
        yield error(
            Id.LEVEL_WITHOUT_SECTION, first.range.key.span,
            f"{first.what} has `{side.key}`{others} but the policy has no `{side.section}`",
            f"declare `{side.section}: {{order: [...]}}`, or delete `{side.key}`"
            + (" everywhere" if len(having) > 1 else ""),
        )


def dom0_handles_every_level(case: Case) -> Iterator[Finding]:
    """dom0's label has no level: whatever it serves or starts, it handles."""
    for side in _sides(case):
        for holder in side.holders if side.lattice is not None else ():
            if holder.exempt and holder.range is not None:
                yield error(
                    Id.LEVEL_DOM0, holder.range.key.span,
                    f"dom0's label {show(holder.name.text)} has `{side.key}`; dom0 handles every "
                    "level",
                    f"delete `{side.key}` from this label",
                )


def ranges_go_upwards(case: Case) -> Iterator[Finding]:
    """The high end of a range dominates its low end."""
    for side in _sides(case):
        points = lattice(side.lattice)
        for holder in side.holders:
            found = level_range(points, holder.range)
            if found is None or points is None or found.high.dominates(found.low):
                continue
            assert holder.range is not None
            low, high = points.show(found.low), points.show(found.high)
            swap = found.low.dominates(found.high)
            higher = points.show(found.low.join(found.high))
            yield error(
                Id.LEVEL_RANGE, holder.range.ends[1].span,
                f"the range of {holder.what} goes from {show(low)} to {show(high)}, which does not "
                "dominate it",
                "swap the two levels" if swap else
                f"raise the high end, for example to {show(higher)}",
            )


def ranges_are_for_trusted_labels(case: Case) -> Iterator[Finding]:
    """A VM that handles several levels is trusted to keep them apart: driver domains and guards."""
    for side in _sides(case):
        points = lattice(side.lattice)
        for holder in side.holders:
            found = level_range(points, holder.range)
            if not holder.single or found is None or found.single or holder.exempt is not False:
                continue
            assert holder.range is not None
            if found.high.dominates(found.low):
                yield error(
                    Id.LEVEL_NOT_TRUSTED, holder.range.key.span,
                    f"{holder.what} has a range of levels, but it is neither a driver domain's nor "
                    "a guard",
                    "give it one level, make it a guard, or add it to `host.drivers`",
                )


RULES: tuple[Rule, ...] = (
    lattices_have_names_of_their_own,
    levels_are_declared,
    every_label_has_a_level,
    no_level_without_a_lattice,
    dom0_handles_every_level,
    ranges_go_upwards,
    ranges_are_for_trusted_labels,
)
