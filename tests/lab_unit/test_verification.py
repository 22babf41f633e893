"""How the four sides are put together, and what counts as a difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from shype.base import child
from shype.base.errors import Unavailable
from shype.cli import verify as cli
from shype.decision.operation import Operation
from shype.host.verify.compare import Report
from shype.host.verify.table import PAIRS, Answer, Difference, Question, Row, Side, counts
from shype.lab.dom0 import startup
from shype.lab.host import Lab
from shype.lab.probe import Attempt, Result, Way
from shype.lab.tried import answers_of
from shype.lab.verification import merged
from shype.policy.names import LabelName

A, B = LabelName("a"), LabelName("b")
READ: Question = (A, B, Operation.MAP_READ)
P, D, E = Answer.PERMIT, Answer.DENY, Answer.ERROR


@pytest.mark.parametrize(("one", "other", "differ"), [
    (P, P, False), (D, D, False), (P, D, True), (D, P, True), (P, E, True), (D, E, True),
    (E, E, True), (P, Answer.NOT_TRIED, False), (Answer.NOT_TOGETHER, D, False),
    (E, Answer.NOT_TRIED, False), (Answer.NOT_POSSIBLE, P, False),
])
def test_what_was_not_asked_neither_agrees_nor_differs(
    one: Answer, other: Answer, differ: bool
) -> None:
    row = Row(READ, {Side.LOADED: one, Side.GUESTS: other})
    assert row.differs(Side.LOADED, Side.GUESTS) is differ
    assert row.different is differ
    count = next(c for c in counts([row], [], {}) if (c.one, c.other) == (Side.LOADED, Side.GUESTS))
    both = one.asked and other.asked
    assert (count.asked, count.different, count.open) == (both, differ, not both)


@pytest.mark.parametrize("wrong", [*Side])
def test_the_side_that_differs_differs_from_all_others(wrong: Side) -> None:
    row = Row(READ, {side: D if side is wrong else P for side in Side})
    assert {pair for pair in PAIRS if row.differs(*pair)} == {p for p in PAIRS if wrong in p}


def test_finer_differences_count_for_their_pair_alone() -> None:
    finer = Difference("a", "b", "grant { map_read }", {Side.BINARY: "deny", Side.LOADED: "permit"})
    found = counts([], [finer], {(Side.BINARY, Side.LOADED): 9})
    assert {(c.one, c.other, c.asked, c.different) for c in found if c.asked or c.different} == {
        (Side.BINARY, Side.LOADED, 9, 1)}


def attempt(source: str, target: str, way: Way, result: Result) -> tuple[
    Attempt, LabelName, LabelName
]:
    return (Attempt(f"vm-{source}", f"vm-{target}", way, result, {}),
            LabelName(source), LabelName(target))


def test_attempts_answer_the_question_of_who_acts() -> None:
    found = dict(answers_of([
        attempt("a", "b", Way.GRANT_MAP_RO, Result.PERMITTED),  # b maps a page of a
        attempt("a", "b", Way.GRANT_MAP_RW, Result.DENIED),
        attempt("b", "a", Way.GRANT_COPY_FROM, Result.ERROR),
        attempt("a", "b", Way.EVENT, Result.DENIED),
    ]))
    assert found == {
        (B, A, Operation.MAP_READ): P, (A, B, Operation.MAP_WRITE): D,
        (A, B, Operation.COPY_FROM): E, (A, B, Operation.EVENT_SEND): D,
    }


def test_attempts_that_disagree_are_an_error() -> None:
    both = [attempt("a", "a", Way.EVENT, result) for result in (Result.DENIED, Result.PERMITTED)]
    assert [*dict(answers_of(both)).values()] == [E]


def test_each_side_keeps_its_answer() -> None:
    first = Report((Row(READ, {Side.SOURCE: P, Side.BINARY: P}, ("x.yaml:1:1",)),), (), {
        (Side.SOURCE, Side.BINARY): 5}, {})
    second = Report((Row(READ, {Side.SOURCE: P, Side.BINARY: P, Side.LOADED: D}),), (), {
        (Side.BINARY, Side.LOADED): 7}, {"win_en": False})
    both = merged(first, second, {READ: Answer.NOT_TOGETHER})
    row, = both.rows
    assert [row.of(side) for side in Side] == [P, P, D, Answer.NOT_TOGETHER]
    assert row.rules == ("x.yaml:1:1",)
    assert both.different
    assert {(c.one, c.other): (c.asked, c.different) for c in both.counts if c.asked} == {
        (Side.SOURCE, Side.BINARY): (6, 0), (Side.SOURCE, Side.LOADED): (1, 1),
        (Side.BINARY, Side.LOADED): (8, 1)}


# -- the program that starts guests -----------------------------------------------------------


@dataclass
class Booleans:
    """Notes what is set, and what is created meanwhile."""

    log: list[object] = field(default_factory=list)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        self.log.append(dict(values))


def test_a_window_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    flask = Booleans()

    def xl(argv: list[str], timeout: float) -> None:
        flask.log.append(argv[1:])
        if "bad.cfg" in argv:
            raise Unavailable("tool.failed", "Permission denied")

    monkeypatch.setattr(child, "run", xl)
    steps = [{"create": name, "open": {"win_en": True}, "close": {"win_en": False}}
             for name in ("bad.cfg", "good.cfg")]
    steps.append({"destroy": "vm", "close": {"run_a": False}})
    done = startup.perform(steps, flask)  # type: ignore[arg-type]
    assert done == {"bad.cfg": "Permission denied", "good.cfg": "", "vm": ""}
    assert flask.log == [
        {"win_en": True}, ["create", "-q", "bad.cfg"], {"win_en": False},
        {"win_en": True}, ["create", "-q", "good.cfg"], {"win_en": False},
        ["destroy", "vm"], {"run_a": False},
    ]


# -- the command ------------------------------------------------------------------------------


def test_a_difference_is_shown_with_all_answers_and_its_rule(
    capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row(READ, {Side.SOURCE: D, Side.BINARY: D, Side.LOADED: P, Side.GUESTS: P},
              ("p.yaml:7:3",))
    cli._show(Report((row,), (), {}, {}), every=False)
    out = capsys.readouterr().out
    assert "grant.map_read  denied  denied  permitted  permitted  p.yaml:7:3" in out
    assert "loaded - guests  1          0          0" in out
    assert out.endswith("there are differences\n")


def test_json_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shype.cli.main import main

    row = Row(READ, {Side.SOURCE: D, Side.BINARY: P})
    monkeypatch.setattr(cli, "_author", lambda _: Report((row,), (), {}, {}))
    assert main(["verify", "--json", "x.yaml"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["different"] is True
    assert value["rows"][0]["answers"] == {
        "source": "deny", "binary": "permit", "loaded": "not tried", "guests": "not tried"}


def test_a_lab_that_does_not_run_needs_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    from shype.cli.main import main

    def attach(name: str) -> Lab:
        raise Unavailable("lab.not-up", name)

    monkeypatch.setattr(Lab, "attach", attach)
    assert main(["verify", "--lab", "nobody"]) == 3
