"""The author's side: what is run in dom0, and how its output is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from shype.base import child
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.decision.operation import Operation
from shype.lab import probe
from shype.lab.dom0 import guestctl
from shype.lab.dom0.experiment import ALL_MECHANISMS, MECHANISMS
from shype.lab.probe import Result, Way
from shype.policy.mechanism import Mechanism


@dataclass
class Done:
    code: int
    out: str
    err: str = ""


@dataclass
class Dom0:
    answer: Done
    calls: list[tuple[list[str], float]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], timeout: float, /) -> Done:
        self.calls.append((list(argv), timeout))
        return self.answer


def attempt(way: Way, result: str = "denied") -> dict[str, object]:
    return {"from": "a", "to": "b", "mechanism": way.value, "result": result,
            "evidence": {"token": "t"}}


def test_ways_are_those_of_guestctl() -> None:
    assert tuple(way.value for way in Way) == ALL_MECHANISMS
    assert tuple(way.value for way in probe.SHARING) == MECHANISMS


def test_every_way_has_an_operation_of_the_policy() -> None:
    assert {way.operation.mechanism for way in probe.SHARING} == {
        Mechanism.EVENT, Mechanism.GRANT, Mechanism.ARGO}
    assert [way.operation for way in probe.FORBIDDEN] == [
        Operation.FOREIGN_MAP, Operation.CONTROL]
    assert {way for way in Way if way.pulled} == {Way.GRANT_MAP_RO, Way.GRANT_COPY_FROM}


def test_pair_runs_guestctl_with_options_that_it_knows() -> None:
    ways = (Way.EVENT, Way.ARGO)
    dom0 = Dom0(Done(0, json.dumps({"attempts": [attempt(way) for way in ways]})))
    found = probe.probe_pair(dom0, "a", "b", ways)
    assert [(a.source, a.target, a.mechanism, a.result) for a in found] == [
        ("a", "b", way, Result.DENIED) for way in ways]
    assert found[0].to_json() == attempt(Way.EVENT)
    (argv, timeout), = dom0.calls
    words = argv[argv.index("shype.lab.dom0.guestctl") + 1 :]
    options = guestctl._parser().parse_args(words)
    assert (options.command, options.guests) == ("pair", ["a", "b"])
    assert options.mechanism == ["event", "argo"]
    assert timeout >= 2 * probe.ATTEMPT_LIMIT


def test_matrix_expects_every_ordered_pair() -> None:
    entries = [attempt(Way.EVENT) for _ in range(6)]
    dom0 = Dom0(Done(0, json.dumps({"attempts": entries})))
    assert len(probe.probe_matrix(dom0, ["a", "b", "c"], (Way.EVENT,))) == 6
    with pytest.raises(Unavailable, match=r"probe\.answer"):
        probe.probe_matrix(dom0, ["a", "b"], (Way.EVENT,))


@pytest.mark.parametrize("broken", [
    {}, {"attempts": None}, {"attempts": []}, {"attempts": [3]},
    {"attempts": [{**attempt(Way.EVENT), "result": "perhaps"}]},
    {"attempts": [{**attempt(Way.EVENT), "mechanism": "telepathy"}]},
    {"attempts": [{**attempt(Way.EVENT), "evidence": None}]},
    {"attempts": [{"result": "denied"}]},
])
def test_malformed_answers_never_pass_as_denials(broken: dict[str, object]) -> None:
    with pytest.raises(Unavailable, match=r"probe\.answer"):
        probe.probe_pair(Dom0(Done(0, json.dumps(broken))), "a", "b", (Way.EVENT,))


@pytest.mark.parametrize("done", [Done(1, "", "Traceback: boom"), Done(124, "", "boom"),
                                  Done(0, "[]"), Done(1, "{}", "boom")])
def test_guestctl_that_fails_is_an_error(done: Done) -> None:
    with pytest.raises(Unavailable, match=r"probe\.answer"):
        probe.ask(Dom0(done), "a", "ping")


@pytest.mark.parametrize(("code", "kind"), [(2, BadInput), (3, Unavailable)])
def test_errors_keep_their_id_and_kind(code: int, kind: type[ShypeError]) -> None:
    error = Unavailable("guest.silent", "no answer", "look").to_json()
    with pytest.raises(kind, match=r"guest\.silent") as raised:
        probe.wait_for(Dom0(Done(code, json.dumps(error))), ["a"])
    assert raised.value.fix == "look"


def test_denied_operation_is_an_answer() -> None:
    dom0 = Dom0(Done(0, json.dumps({"op": "bool_set", "result": "denied", "errno": 13})))
    assert probe.ask(dom0, "a", "bool_set", "x", 1)["result"] == "denied"
    assert dom0.calls[0][0][-5:] == ["ask", "a", "bool_set", "x", "1"]


def test_no_mechanism_is_bad_input() -> None:
    with pytest.raises(BadInput):
        probe.probe_pair(Dom0(Done(0, "{}")), "a", "b", ())


def test_guestctl_takes_a_guest_as_its_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Domain 999 cannot be reached where there is no Xen: the error names what is missing."""
    assert guestctl.main(["999", "ping"]) == 3
    assert json.loads(capsys.readouterr().out)["error"] in ("tool.missing", "guest.gone")


def test_pairs_are_tried_once_and_the_guests_waited_for() -> None:
    entries = [attempt(Way.EVENT) for _ in range(2)]
    dom0 = Dom0(Done(0, json.dumps({"attempts": entries})))
    probe.probe_pairs(dom0, [("a", "b"), ("b", "c")], (Way.EVENT,), boot=9)
    words = dom0.calls[0][0][dom0.calls[0][0].index("shype.lab.dom0.guestctl") + 1 :]
    options = guestctl._parser().parse_args(words)
    assert (options.guests, options.pair, options.wait) == (
        ["a", "b", "c"], [["a", "b"], ["b", "c"]], 9.0)
    with pytest.raises(Unavailable, match=r"probe\.answer"):
        probe.probe_pairs(dom0, [("a", "b")], (Way.EVENT,))


def test_a_script_is_one_call() -> None:
    dom0 = Dom0(Done(0, json.dumps({"answers": [{"domid": 3}, {"result": "ok"}]})))
    steps: list[tuple[str | int, ...]] = [("a", "info"), ("b", "event_offer", "@0.domid")]
    assert probe.script(dom0, steps)[0]["domid"] == 3
    words = dom0.calls[0][0][dom0.calls[0][0].index("shype.lab.dom0.guestctl") + 1 :]
    assert guestctl._parser().parse_args(words).steps == [list(step) for step in steps]
    with pytest.raises(Unavailable, match=r"probe\.answer"):
        probe.script(dom0, steps[:1])


@pytest.mark.parametrize(("arg", "wanted"), [
    ("@0.domid", 3), ("@1.text", "x"), ("plain", "plain"), ("@", "@"), (7, 7), ("a@0.b", "a@0.b"),
])
def test_an_argument_may_be_an_earlier_answer(arg: str | int, wanted: object) -> None:
    assert guestctl._resolved(arg, [{"domid": 3}, {"text": "x"}]) == wanted


@pytest.mark.parametrize("arg", ["@2.domid", "@0.port"])
def test_an_answer_that_is_not_there(arg: str) -> None:
    with pytest.raises(BadInput, match=r"probe\.argument"):
        guestctl._resolved(arg, [{"domid": 3}, {"text": "x"}])


def test_guests_are_found_with_two_calls_if_none_ends_meanwhile(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"0": "Domain-0", "3": "a", "12": "b"}
    calls: list[tuple[str, ...]] = []

    def read(*paths: str) -> list[str] | None:
        calls.append(paths)
        found = [names.get(path.split("/")[3]) for path in paths]
        return None if None in found else [name for name in found if name is not None]

    listed = ["0", "3", "12"]
    monkeypatch.setattr(guestctl, "xenstore_read", read)
    monkeypatch.setattr(child, "run",
                        lambda *_, **__: Done(0, "\n".join(listed) + "\nx\n"))
    assert guestctl.domids() == {"Domain-0": 0, "a": 3, "b": 12}
    assert len(calls) == 1
    listed.append("13")  # it ended after it was listed
    assert guestctl.domids() == {"Domain-0": 0, "a": 3, "b": 12}
    assert guestctl.domid_of("b") == 12
    with pytest.raises(BadInput, match=r"guest\.unknown"):
        guestctl.domid_of("c")
