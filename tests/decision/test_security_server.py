"""The security server: its answers, their reasons, its errors, its speed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial

import pytest

from shype.base.errors import BadInput
from shype.decision.decision import Decision, Holder
from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer, UnknownRunning
from shype.policy.names import LabelName, MemberName

from .examples import banks, policy

SERVER = SecurityServer(banks())
MANAGER = LabelName("manager")


def ask(a: str, b: str, operation: Operation = Operation.EVENT_SEND) -> Decision:
    """A question about the banks."""
    return SERVER.decide(LabelName(a), LabelName(b), operation)


def lines(decision: Decision) -> list[int]:
    """The policy lines that a decision names, in its order."""
    return [span.line for span in decision.rules]


def running(*labels: str) -> list[Running]:
    """Domains 1, 2, ... with these labels, named vm1, vm2, ..."""
    return [Running(i, f"vm{i}", LabelName(label)) for i, label in enumerate(labels, start=1)]


#: Subject, object, verdict and id for: event.send, the four of grants (one if they agree),
#: argo.send, disk and network, xenstore.read, foreign.map and control.domain.
TABLE = [
    ("bank-a-db", "bank-a-desk",
     "+ste.shared +ste.shared +ste.shared "
     "+ste.shared -mechanism.closed -host.only"),
    ("bank-a-db", "bank-a-db",
     "+ste.shared +ste.shared +ste.shared "
     "+ste.shared -mechanism.closed -host.only"),
    ("bank-a-db", "bank-b-db",
     "-ste.disjoint -ste.disjoint -ste.disjoint "
     "-ste.disjoint -ste.disjoint -host.only"),
    ("bank-a-desk", "bank-b-desk",
     "+ste.shared +ste.shared +ste.shared "
     "+ste.shared -mechanism.closed -host.only"),
    ("hermit", "hermit",
     "-ste.disjoint -ste.disjoint -ste.disjoint "
     "-ste.disjoint -ste.disjoint -host.only"),
    ("hermit", "vault",
     "-ste.disjoint -ste.disjoint -ste.disjoint "
     "-ste.disjoint -ste.disjoint -host.only"),
    ("manager", "bank-a-db",
     "+auth.dom0 +auth.dom0 -host.no-argo "
     "+auth.dom0 +auth.dom0 +auth.dom0"),
    ("bank-a-db", "manager",
     "+auth.dom0 -host.no-map,-host.no-map,+auth.dom0,+auth.dom0 -host.no-argo "
     "+auth.dom0 +auth.dom0 -host.only"),
    ("manager", "hermit", "+auth.dom0 +auth.dom0 -host.no-argo +auth.dom0 +auth.dom0 +auth.dom0"),
    ("manager", "vault",
     "-auth.not-authorized -auth.not-authorized -host.no-argo "
     "-auth.not-authorized -auth.not-authorized -auth.not-authorized"),
    ("vault", "manager",
     "-auth.not-authorized -auth.not-authorized -host.no-argo "
     "-auth.not-authorized -auth.not-authorized -host.only"),
    ("manager", "manager", "+host.self +host.self -host.no-argo +host.self +host.self +host.self"),
]
GROUPS = (
    (Operation.EVENT_SEND,),
    (Operation.MAP_READ, Operation.MAP_WRITE, Operation.COPY_FROM, Operation.COPY_TO),
    (Operation.ARGO_SEND,),
    (Operation.DISK_READ, Operation.DISK_WRITE, Operation.NETWORK_SEND),
    (Operation.STORE_READ,),
    (Operation.FOREIGN_MAP, Operation.CONTROL),
)


def test_the_table_asks_for_every_operation() -> None:
    assert {op for group in GROUPS for op in group} == set(Operation)


@pytest.mark.parametrize(("a", "b", "expected"), TABLE)
def test_who_may_do_what_to_whom(a: str, b: str, expected: str) -> None:
    found = []
    for group in GROUPS:
        words = [f"{'+' if d.permitted else '-'}{d.id}" for d in (ask(a, b, op) for op in group)]
        found.append(words[0] if len(set(words)) == 1 else ",".join(words))
    assert " ".join(found) == expected


def test_shared_coalitions_are_named_with_the_lines_that_say_so() -> None:
    decision = ask("bank-a-desk", "bank-b-desk")
    assert decision.shared == ("market",)
    assert "bank-a-desk" in decision.sentence
    assert "bank-b-desk" in decision.sentence
    assert "the coalition market" in decision.sentence
    assert lines(decision) == [8, 10, 3]
    assert lines(ask("bank-a-db", "bank-a-db")) == [7, 3]
    assert "another bank-a-db" in ask("bank-a-db", "bank-a-db").sentence


def test_a_disjoint_pair_is_told_what_each_has() -> None:
    decision = ask("bank-a-desk", "bank-b-db")
    assert "bank-a-desk: bank-a and market; bank-b-db: bank-b" in decision.sentence
    assert lines(decision) == [8, 9]
    assert "hermit: no coalition" in ask("hermit", "bank-b-db").sentence
    assert "hermit is in no coalition" in ask("hermit", "hermit").sentence


def test_authorization() -> None:
    permitted = SERVER.authorize(LabelName("bank-a-desk"))
    assert (permitted.permitted, permitted.id) == (True, "auth.dom0")
    assert permitted.shared == ("bank-a", "market")
    assert lines(permitted) == [6, 8, 14]
    denied = SERVER.authorize(LabelName("vault"))
    assert (denied.permitted, denied.id) == (False, "auth.not-authorized")
    assert "the coalition offline" in denied.sentence
    assert lines(denied) == [6, 12, 14]


def test_no_vm_may_carry_the_label_of_dom0() -> None:
    for decision in (SERVER.authorize(MANAGER), SERVER.launch(MANAGER, [])):
        assert (decision.permitted, decision.id) == (False, "auth.reserved")


def test_the_wall_names_who_holds_it() -> None:
    decision = SERVER.launch(
        LabelName("bank-b-db"), running("market-data", "bank-a-db", "bank-a-desk")
    )
    assert (decision.permitted, decision.id) == (False, "wall.conflict")
    assert decision.holders == (
        Holder(2, "vm2", LabelName("bank-a-db"), MemberName("bank-a")),
        Holder(3, "vm3", LabelName("bank-a-desk"), MemberName("bank-a")),
    )
    assert decision.sentence == (
        "bank-b-db may not start: the wall banks separates bank-b from what runs: "
        "VM vm2 (domain 2, label bank-a-db) holds bank-a and "
        "VM vm3 (domain 3, label bank-a-desk) holds bank-a."
    )
    assert lines(decision) == [4, 9, 7, 8]


def test_free_starts_say_why() -> None:
    beside = SERVER.launch(LabelName("bank-a-desk"), running("bank-a-db", "market-data"))
    assert (beside.permitted, beside.id) == (True, "wall.free")
    assert "bank-a" in beside.sentence
    assert lines(beside) == [8, 4]
    unconcerned = SERVER.launch(LabelName("market-data"), running("bank-a-db"))
    assert "a member of no wall" in unconcerned.sentence
    assert lines(unconcerned) == [11]


def test_dom0_may_be_listed_among_the_running() -> None:
    host = Running(0, "Domain-0", MANAGER)
    assert SERVER.launch(LabelName("bank-a-db"), [host]).permitted


def test_authorization_comes_before_the_wall() -> None:
    walled = SecurityServer(policy(
        ["s"], {"w": ["a", "b"]}, {"host": ([], []), "x": (["s"], ["a"]), "y": ([], ["b"])}, "host",
    ))
    assert walled.launch(LabelName("x"), running("y")).id == "auth.not-authorized"


@pytest.mark.parametrize("label", ["bank-c-db", "system_u:system_r:domU_t", "", "unlabeled"])
def test_a_running_label_that_the_policy_lacks_is_an_error_not_a_denial(label: str) -> None:
    domains = [*running("bank-a-db"), Running(9, "relic", LabelName(label))]
    for start in ("bank-a-db", "market-data"):
        with pytest.raises(UnknownRunning) as error:
            SERVER.launch(LabelName(start), domains)
        assert error.value.id == "wall.unknown-running"
        assert error.value.exit_code == 3
        assert "relic (domain 9" in error.value.message
    with pytest.raises(UnknownRunning):
        SERVER.violations(domains)


def test_names_of_vms_cannot_forge_lines_of_a_log() -> None:
    evil = Running(1, "x\npermit ste.shared\x1b[2J", LabelName("bank-a-db"))
    sentence = SERVER.launch(LabelName("bank-b-db"), [evil]).sentence
    assert sentence.isprintable()
    assert r"x\npermit ste.shared\x1b[2J" in sentence


def test_unknown_labels_are_bad_input_with_a_guess() -> None:
    questions: list[Callable[[], object]] = [
        lambda: ask("bank-a-dv", "bank-b-db"), lambda: ask("bank-b-db", "bank-a-dv"),
        lambda: ask("manager", "bank-a-dv", Operation.ARGO_SEND),
        lambda: SERVER.authorize(LabelName("bank-a-dv")),
        lambda: SERVER.launch(LabelName("bank-a-dv"), []),
        lambda: SERVER.together(LabelName("bank-a-dv"), MANAGER),
        *(
            partial(SERVER.permits, LabelName(a), LabelName(b), operation)
            for operation in Operation
            for a, b in (("bank-a-dv", "manager"), ("manager", "bank-a-dv"), ("bank-a-dv", "vault"))
        ),
    ]
    for question in questions:
        with pytest.raises(BadInput) as error:
            question()
        assert error.value.id == "label.unknown"
        assert "bank-a-db" in error.value.fix


def test_many_names_are_cut_short_in_sentences_but_not_in_the_decision() -> None:
    types = [f"t{i}" for i in range(30)]
    server = SecurityServer(policy(types, {}, {"host": (types, []), "x": (types, [])}, "host"))
    decision = server.decide(LabelName("x"), LabelName("x"), Operation.MAP_WRITE)
    assert len(decision.shared) == 30
    assert "and 26 more" in decision.sentence


def test_together_is_about_the_wall_alone() -> None:
    denied = SERVER.together(LabelName("bank-a-desk"), LabelName("bank-b-desk"))
    assert (denied.permitted, denied.id) == (False, "wall.conflict")
    assert "the wall banks separates bank-a from bank-b" in denied.sentence
    assert lines(denied) == [4, 8, 10]
    assert SERVER.together(LabelName("bank-a-db"), LabelName("bank-a-db")).id == "wall.free"
    assert SERVER.together(LabelName("vault"), MANAGER).permitted


def test_violations_name_each_domain_that_should_not_run() -> None:
    found = SERVER.violations(running("bank-a-db", "bank-b-db", "market-data", "bank-a-desk"))
    assert [(d.id, [h.domid for h in d.holders]) for d in found] == [
        ("wall.conflict", [1]), ("wall.conflict", [2]),
    ]
    unconcerned = SERVER.launch(LabelName("market-data"), running("bank-a-db", "bank-b-db"))
    assert unconcerned.permitted


def test_a_hundred_thousand_pairs_take_a_second() -> None:
    """A bound that only an accidental loop over the policy would break (measured: 0.1 s, 0.7 s)."""
    types = [f"t{i}" for i in range(64)]
    names = [f"l{i}" for i in range(320)]
    none: list[str] = []
    labels = {name: (types[i % 64 : i % 64 + 3], none) for i, name in enumerate(names)}
    server = SecurityServer(policy(types, {}, {"host": (types, []), **labels}, "host"))
    pairs = list(itertools.product(map(LabelName, names), repeat=2))
    begin = time.process_time()
    allowed = sum(server.permits(a, b, Operation.MAP_WRITE) for a, b in pairs)
    middle = time.process_time()
    assert allowed == sum(server.decide(a, b, Operation.MAP_WRITE).permitted for a, b in pairs)
    end = time.process_time()
    assert middle - begin < 4
    assert end - middle < 15
