"""Test files become tests, or findings that say where, what and how to mend it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.suites.ids import SuiteId
from shype.analysis.suites.questions import (
    Arrive,
    Beside,
    Flows,
    Operate,
    Question,
    Start,
    UseResource,
)
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.policy.mechanism import Mechanism
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName
from tests.analysis.suites.bad_suites import CASES, GOOD, Bad, read

SURGERY, MATERNITY, LAB, PORTAL, GUARD = map(
    LabelName, ("surgery", "maternity", "laboratory", "trial-portal", "anonymiser"))
HEAD = "shype-test: 1\npolicy: {policy}.yaml\ntests:\n  t:\n    - "


def one(question: str, policy: str = "hospital") -> list[Question]:
    """What ``question`` asks."""
    tests, findings = read(HEAD.format(policy=policy) + f"{question}: yes\n")
    assert findings == []
    return [test.question for test in tests]


@pytest.mark.parametrize(("words", "asked"), [
    ("may surgery -> laboratory", Arrive(SURGERY, LAB)),
    ("may surgery->laboratory", Arrive(SURGERY, LAB)),
    ("may  surgery   ->  laboratory  via  disk", Arrive(SURGERY, LAB, Mechanism.DISK)),
    ("'may surgery -> laboratory via argo'", Arrive(SURGERY, LAB, Mechanism.ARGO)),
    ("may surgery -> laboratory via argo.send", Operate(SURGERY, LAB, Operation.ARGO_SEND)),
    ("may dom0 -> laboratory via control.domain",
     Operate(LabelName("clinic-it"), LAB, Operation.CONTROL)),
    ("may vm:ward-1 -> label:laboratory", Arrive(SURGERY, LAB)),
    ("may surgery start", Start(SURGERY)),
    ("may surgery start while laboratory runs", Start(SURGERY, (LAB,))),
    ("may surgery start while [laboratory, surgery] run", Start(SURGERY, (LAB, SURGERY))),
    ("may surgery start while laboratory, maternity and surgery run",
     Start(SURGERY, (LAB, MATERNITY, SURGERY))),
    ("may surgery run beside maternity", Beside(SURGERY, MATERNITY)),
    ("flows surgery -> laboratory", Flows(SURGERY, LAB)),
    ("may surgery use network br-wards",
     UseResource(SURGERY, ResourceKind.NETWORK, "br-wards")),
    ("may surgery use disk /dev/a to read and write",
     UseResource(SURGERY, ResourceKind.DISK, "/dev/a")),
    ("may surgery use disk /dev/a b to write",
     UseResource(SURGERY, ResourceKind.DISK, "/dev/a b", Access.WRITE)),
    ('may surgery use disk "/dev/a to read" to read',
     UseResource(SURGERY, ResourceKind.DISK, "/dev/a to read", Access.READ)),
    ('may surgery use pci "0000:03:00.0"',
     UseResource(SURGERY, ResourceKind.PCI, "0000:03:00.0")),
    ("may surgery use pci 03:00.0", UseResource(SURGERY, ResourceKind.PCI, "0000:03:00.0")),
    ('"may surgery use pci \\"0000:03:00.0\\" to read"',
     UseResource(SURGERY, ResourceKind.PCI, "0000:03:00.0", Access.READ)),
    ("may surgery use memory 0x1000-0x1fff",
     UseResource(SURGERY, ResourceKind.MEMORY, "0x1000-0x1fff")),
    ("may surgery use disk rbd:pool/image",
     UseResource(SURGERY, ResourceKind.DISK, "rbd:pool/image")),
])
def test_what_a_question_asks(words: str, asked: Question) -> None:
    assert one(words) == [asked]


def test_a_question_is_shown_so_that_it_can_be_asked_again() -> None:
    for test in read(GOOD)[0]:
        assert one(str(test.question)) in (
            [test.question], [Flows(test.question.source, test.question.sink)]
            if isinstance(test.question, Flows) else [],
        )


def test_a_pattern_is_a_test_for_each_label_that_a_vm_can_carry() -> None:
    found = one("may bank-a-* -> bank-?-desk", "banks")
    assert [(q.source, q.sink) for q in found if isinstance(q, Arrive)] == [
        ("bank-a-db", "bank-a-desk"), ("bank-a-db", "bank-b-desk"),
        ("bank-a-desk", "bank-a-desk"), ("bank-a-desk", "bank-b-desk"),
    ]
    starting = [q.label for q in one("may * start", "banks") if isinstance(q, Start)]
    assert "manager" not in starting
    assert len(starting) == 5
    assert len(one("may m* start while bank-*, bank-a-* run", "banks")) == 8


def test_a_table_is_a_test_for_each_cell() -> None:
    tests, findings = read(GOOD)
    assert findings == []
    cells = [test for test in tests if test.title == "research"]
    assert [(str(t.question), t.expected.word, t.span.line, t.span.column) for t in cells] == [
        ("may surgery -> laboratory via grant.map_read", "yes", 16, 18),
        ("may surgery -> statistics via grant.map_read", "no", 16, 23),
    ]


@pytest.mark.parametrize("answer", ["yes", "Yes", "true", "on", '"yes"', "{answer: yes}"])
def test_yes_is_written_as_in_yaml(answer: str) -> None:
    tests, findings = read(GOOD.replace("grant: yes", f"grant: {answer}"))
    assert findings == []
    assert tests[0].expected.word == "yes"


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.id}-{bad.line}-{bad.column}")
def test_what_is_wrong_is_found_where_it_stands(bad: Bad) -> None:
    _, findings = read(bad.text)
    found = [finding for finding in findings if finding.id == bad.id]
    assert [(f.span.line, f.span.column) for f in found] == [(bad.line, bad.column)], findings
    assert found[0].span.file == "t.test.yaml"
    assert found[0].fix
    if bad.fix:
        assert bad.fix in found[0].fix


def test_every_id_has_a_case() -> None:
    assert {bad.id for bad in CASES} == {*SuiteId}


def test_one_mistake_is_one_finding() -> None:
    alone = [bad for bad in CASES if bad.id is not SuiteId.POLICY]
    for bad in alone:
        findings = read(bad.text)[1]
        # `test:` also means that there are no tests under `tests:`, but there are matrices.
        assert len(findings) == 1, (bad, findings)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    text = GOOD.replace("may surgery", "may surgry").replace("[yes, no]", "[yes]").replace(
        "grant: yes", "grant: perhaps").replace("* start", "* starts")
    assert sorted(f.id for f in read(text)[1]) == [
        "test.answer", "test.label-unknown", "test.label-unknown", "test.matrix", "test.question",
    ]


def test_a_policy_with_errors_is_told_with_its_findings_and_once() -> None:
    tests, findings = read(GOOD.replace("hospital.yaml", "../docs/tutorial.md"))
    assert tests == []
    assert {"test.policy"} < {finding.id for finding in findings}
    assert len([finding for finding in findings if finding.id == "test.policy"]) == 1


def test_the_default_day_is_the_reader_s() -> None:
    tests, _ = read(GOOD.replace("today: 2030-01-01\n", ""))
    assert str(tests[0].today) == "2030-01-01"
    tests, _ = read(GOOD.replace("2030-01-01", '"2031-02-03"'))
    assert str(tests[0].today) == "2031-02-03"


_WORDS = sorted({*re.findall(r"[\w.*/-]+|[^\w\s]|\s+", GOOD), "->", "may", "flows", "[", "{"})


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.one_of(
        st.sampled_from(_WORDS), st.text(max_size=4))), min_size=1, max_size=4),
)
def test_garbage_gives_findings_and_never_a_traceback(
    cuts: list[tuple[int, int, str]]
) -> None:
    text = GOOD
    for begin, length, put in cuts:
        text = text[:begin] + put + text[begin + length:]
    tests, findings = read(text)
    for finding in findings:
        assert finding.fix
        assert str(finding).count("\n") == 1
    if not findings:
        for test in tests:
            assert test.question.ask(test.server).word
            assert test.name.isprintable()
