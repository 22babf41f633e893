"""Rules about guards, the only places where information changes coalition or level."""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy import grammar
from shype.policy.draft import DraftGuard, Ref
from shype.policy.findings import Id, error, show, warning
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule
from shype.policy.schema import not_a_day
from shype.policy.source import Finding

#: Days before a guard expires from which on it is said.
SOON = 30


def _ends(guard: DraftGuard) -> list[Ref]:
    return [ref for ref in (guard.source, guard.sink) if ref is not None]


def guards_are_no_other_labels(case: Case) -> Iterator[Finding]:
    """A guard is itself the name of a label, so no other label has its name."""
    for name, guard in case.draft.guards.items():
        other = (case.draft.labels or {}).get(name)
        if other is not None:
            yield error(
                Id.GUARD_NAME, guard.label.name.span,
                f"{show(name)} is a label too (line {other.name.span.line}); a guard is the label "
                "of its VMs",
                "rename one of them, or delete the label",
            )


def guards_join_declared_coalitions(case: Case) -> Iterator[Finding]:
    """A guard's two coalitions are declared under ``coalitions``."""
    for guard in case.draft.guards.values():
        for ref in _ends(guard):
            if ref.text == grammar.ALL:
                yield error(
                    Id.NAME_RESERVED, ref.span,
                    "a guard joins two coalitions, and `all` is not one",
                    "name the coalition",
                )
            elif case.draft.coalitions:
                yield from case.undeclared(
                    [ref], case.draft.coalitions, Id.COALITION_UNDECLARED, "coalition",
                    "coalitions",
                )


def guards_join_two_coalitions(case: Case) -> Iterator[Finding]:
    """Within one coalition nothing changes coalition."""
    for name, guard in case.draft.guards.items():
        source, sink = guard.source, guard.sink
        if source is not None and sink is not None and source.text == sink.text != grammar.ALL:
            yield error(
                Id.GUARD_SAME, sink.span,
                f"the guard {show(name)} goes from {show(source.text)} to itself",
                "name two coalitions; to change only the level, use a coalition for each side",
            )


def guards_expire_on_a_day(case: Case) -> Iterator[Finding]:
    """The date exists in the calendar (its form is a matter of structure)."""
    for guard in case.draft.guards.values():
        when = guard.expires
        if when is None or not grammar.has_date_form(when.text):
            continue  # the structure's findings say so
        if grammar.as_date(when.text) is None:
            yield not_a_day(when.text, when.span)


def guards_are_not_expired(case: Case) -> Iterator[Finding]:
    """From the day on which a guard expires, nobody builds a policy with it."""
    for name, guard in case.draft.guards.items():
        day = grammar.as_date(guard.expires.text) if guard.expires is not None else None
        if guard.expires is not None and day is not None and case.today >= day:
            yield error(
                Id.GUARD_EXPIRED, guard.expires.span,
                f"the guard {show(name)} expired on {day} (today is {case.today})",
                "delete the guard, or set a later day after reviewing its reason",
            )


def guards_are_guests(case: Case) -> Iterator[Finding]:
    """A guard is an ordinary VM's label: not dom0's, a driver domain's, or `unlabeled`."""
    draft = case.draft
    hosts = [(draft.dom0, "dom0's label")] if draft.dom0 is not None else []
    for ref, what in (*hosts, *((ref, "a driver domain's label") for ref in draft.drivers or ())):
        if ref is not None and ref.text in draft.guards and ref.text not in (draft.labels or {}):
            yield error(
                Id.GUARD_HOST, ref.span, f"the guard {show(ref.text)} cannot be {what}",
                "declare a label for it and name that here",
            )
    unnamed = draft.guards.get(UNLABELED)
    if unnamed is not None:
        yield error(
            Id.GUARD_UNLABELED, unnamed.label.name.span,
            "a guard cannot be named `unlabeled`: VMs without a label would be it",
            "choose another name",
        )


def guards_do_not_expire_soon(case: Case) -> Iterator[Finding]:
    """Time to review it."""
    for name, guard in case.draft.guards.items():
        day = grammar.as_date(guard.expires.text) if guard.expires is not None else None
        if guard.expires is not None and day is not None and (day - case.today).days <= SOON:
            left = (day - case.today).days
            yield warning(
                Id.GUARD_EXPIRES_SOON, guard.expires.span,
                f"the guard {show(name)} expires in {left} day{'s' if left != 1 else ''}, on {day}",
                "review its reason, and set a later day or delete it",
            )


RULES: tuple[Rule, ...] = (
    guards_are_no_other_labels,
    guards_join_declared_coalitions,
    guards_join_two_coalitions,
    guards_expire_on_a_day,
    guards_are_not_expired,
    guards_are_guests,
)
ADVICE: tuple[Rule, ...] = (guards_do_not_expire_soon,)
