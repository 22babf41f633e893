"""`shype plan`, rule by rule: the finding, its weight, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.analysis.policies import NEXT, OLD, ids, planned, running


@dataclass(frozen=True, slots=True)
class Case:
    """An update of `OLD` (or ``old``), and the finding that it gives with its weight."""

    id: str
    new: str
    state: object = None
    verdict: str = "clean"
    weight: str = "note"
    old: str = OLD
    says: str = ""
    conditional: bool = False


def swap(*pairs: str, text: str = NEXT) -> str:
    """``text`` with each first string of a pair replaced by the second."""
    for before, after in zip(pairs[::2], pairs[1::2], strict=True):
        assert before in text, before
        text = text.replace(before, after)
    return text


NO_BLUE = swap("  blue-db: {coalitions: [blue], wall: [blue]}\n", "", ", b: blue-db", "")
CASES = [
    Case("plan.from", OLD.replace("1.0", "1.1"), verdict="impossible", weight="stop",
         says="replaces none"),
    Case("plan.from", NEXT.replace('from: "1.0"', 'from: "0.9"'), verdict="impossible",
         weight="stop", says="replaces version 0.9"),
    Case("plan.version", OLD, verdict="impossible", weight="stop", says="1.0 is not higher"),
    Case("plan.version", OLD.replace("1.0", "1.9"), verdict="impossible", weight="stop",
         old=OLD.replace("1.0", "1.10"), says="1.9 is not higher than 1.10"),
    Case("plan.name", NEXT.replace("acme", "other"), verdict="impossible", weight="stop"),
    Case("plan.was-unknown", swap("quotes: {", "quotes: {was: prices, "), says="was prices"),
    Case("plan.was-taken", swap("quotes: {", "desk: {was: quotes, ",
                                "  desk: {coalitions: [red, market]}\n", "",
                                "q: quotes", "q: desk"),
         verdict="impossible", weight="stop", says="go on as the renamed quotes"),
    Case("plan.label-lost", NO_BLUE, conditional=True, says="if a VM still carries blue-db, it"),
    Case("plan.label-lost", NO_BLUE, running(b="blue-db"), "impossible", "stop",
         says="VM b (domain 1), labelled blue-db, loses its label"),
    Case("plan.label-unknown", NEXT, running(x="strange"), "impossible", "stop"),
    Case("plan.label-unknown", NEXT, running(x="host"), "impossible", "stop"),
    Case("plan.not-authorized", swap("{coalitions: all}", "{coalitions: [red, market]}"),
         running(b="blue-db"), "impossible", "stop"),
    Case("plan.wall-violated", swap("quotes: {", "quotes: {wall: [blue], "),
         running(r="red-db", q="quotes"), "impossible", "stop"),
    Case("plan.wall-boolean", swap("[red, blue]}\nlabels", "[red, blue, green]}\nlabels",
                                   "quotes: {", "quotes: {wall: [green], "),
         running(q="quotes"), says="shype recover"),
    Case("plan.assignment", swap("q: quotes", "q: desk"), running(q="quotes")),
    Case("plan.window-open", NEXT, {"domains": [], "window": {"open": True}}, "impossible", "stop"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_update_gives_its_finding(case: Case) -> None:
    made = planned(case.old, case.new, case.state)
    found = [f for f in made.found if f.id == case.id]
    assert found, ids(made)
    assert found[0].weight == case.weight
    assert found[0].conditional == case.conditional
    assert case.says in f"{found[0].sentence} {found[0].fix}"
    assert made.verdict == case.verdict, [str(f) for f in made.found]


def test_the_same_policy_again_is_clean_and_changes_nothing() -> None:
    made = planned(OLD, NEXT, running(r="red-db", q="quotes", d="desk"))
    assert (made.verdict, made.found, made.groups) == ("clean", (), ())


def test_renames_change_no_pair() -> None:
    new = swap("red-db: {", "crimson: {was: red-db, ", "r: red-db", "r: crimson",
               "[red, blue, market]", "{rouge: {was: red}, blue: {}, market: {}}",
               "[red]", "[rouge]", "[red, market]", "[rouge, market]",
               "{colours: [red, blue]}", "{tints: {members: [red, blue], was: colours}}",
               "wall: [rouge]", "wall: [red]")
    made = planned(OLD, new, running(r="red-db", q="quotes", d="desk"))
    assert (made.verdict, made.found, made.groups) == ("clean", (), ())
