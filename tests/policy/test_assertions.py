"""Assertions as text: read back as they were written, in a policy and in a file of their own."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shype.policy import schema
from shype.policy.assertions import By, Kind, Selector, choice, kind_of, sentence
from shype.policy.bundle import policy_to_json
from shype.policy.loader import check_assertions, check_assertions_text, check_text
from shype.policy.model import Policy
from shype.policy.source import Span
from tests.decision.small_policies import Chooser
from tests.policy.assertion_text import assertion, written
from tests.policy.draws import SOURCE
from tests.policy.good_policies import ASSERTED, RICH, TODAY
from tests.policy.policy_text import policy_yaml
from tests.policy.strategies import PATIENT, full_policies

POLICY, _FOUND = check_text(ASSERTED, "p.yaml", TODAY)


@settings(PATIENT, max_examples=15)
@given(st.randoms(use_true_random=False), full_policies())
def test_round_trip_in_a_policy_and_in_a_file(random: Random, policy: Policy) -> None:
    text = policy_yaml(policy)
    plain, findings = check_text(text, SOURCE, TODAY)
    assert plain is not None, findings
    choose = Chooser(random.randrange)
    drawn = [assertion(choose, plain) for _ in range(8)]
    some = [one for one in drawn if one is not None]
    lines, wanted = written(some, SOURCE, text.count("\n") + 2)
    whole, findings = check_text(text + "assert:\n" + "\n".join(lines) + "\n", SOURCE, TODAY)
    if not some:
        return
    assert whole is not None, findings
    assert whole.assertions == wanted
    lines, wanted = written(some, "a.yaml", 3)
    read, findings = check_assertions_text(
        "shype-assert: 1\nassert:\n" + "\n".join(lines), "a.yaml", plain)
    assert read == wanted, findings


def test_each_kind_is_read_and_said() -> None:
    assert POLICY is not None
    assert {kind_of(one) for one in POLICY.assertions} == {*Kind}
    assert [sentence(one) for one in POLICY.assertions[:4]] == [
        "never: bench -> desk", "only-through: ward -> desk",
        "never: coalition world -> w*", "exactly: [ward -> release, release -> desk]",
    ]
    assert [one.terms.span.line for one in POLICY.assertions] == [*range(36, 44)]
    assert POLICY.assertions[1].terms.name == "one-way-out"


def test_a_long_list_is_cut_in_the_sentence() -> None:
    assert POLICY is not None
    pairs = [f"{a} -> {b}" for a in ("ward", "bench", "desk") for b in ("nic", "release", "desk")]
    entry = f"exactly: [{', '.join(pairs)}]"
    read, findings = check_assertions_text(
        f"shype-assert: 1\nassert: [{{{entry}}}]\n", "a.yaml", POLICY)
    assert read is not None, findings
    assert sentence(read[0]).endswith("bench -> desk, and 3 more]")


def test_selectors_choose_labels_of_vms_only() -> None:
    assert POLICY is not None
    known, at = choice(POLICY), Span("", 1, 1)
    for by, text, wanted in (
        (By.EVERYONE, "", ("nic", "ward", "bench", "desk", "release")),
        (By.COALITION, "wards", ("nic", "ward")),  # a guard is no member
        (By.WALL, "blue", ("desk",)),
        (By.PATTERN, "*e*", ("bench", "desk", "release")),
        (By.PATTERN, "boss", ()),
        (By.PATTERN, "bo*", ()),
    ):
        assert known.names(Selector(by, text, at)) == wanted


def test_a_bundle_has_no_assertions() -> None:
    """What a host decides by does not change with what was proved about it."""
    bare, _ = check_text(RICH, "p.yaml", TODAY)
    assert POLICY is not None
    assert bare is not None
    assert policy_to_json(POLICY) == policy_to_json(bare)


@pytest.mark.parametrize(("text", "place", "says"), [
    ("shype-assert: 2\n", (1, 15), "written in version 2"),
    ("shype: 1\nassert: []\n", (1, 1), "`shype` is unknown"),
    ("assert: []\n", (1, 1), "missing in the file: `shype-assert`"),
    ("- a\n", (1, 1), "a file of assertions is a mapping"),
    ("shype-assert: one\nassert: []\n", (1, 15), "must be the number 1"),
    ("shype-assert: 1\nassert: {}\n", (2, 9), "must be a list of assertions"),
    ("shype-assert: 1\nassert:\n  - never: bench -> dsk\n", (3, 12), "no label `dsk`"),
    ("shype-assert: 1\nassert: [\n", (3, 1), ""),
    ("", (1, 1), "nothing in the file"),
])
def test_a_wrong_file_gives_its_finding_at_its_place(
    text: str, place: tuple[int, int], says: str
) -> None:
    assert POLICY is not None
    read, findings = check_assertions_text(text, "a.yaml", POLICY)
    assert read is None
    assert place in [(f.span.line, f.span.column) for f in findings], findings
    assert any(says in f.message for f in findings), findings


def test_all_findings_of_a_file_come_at_once(tmp_path: Path) -> None:
    assert POLICY is not None
    path = tmp_path / "a.yaml"
    path.write_text(
        "shype-assert: 1\nassert:\n  - never: bench ward\n  - {never: bench -> dsk, bye: [x]}\n"
        "  - only-through: ward -> desk\n")
    read, findings = check_assertions(path, POLICY)
    assert read is None
    assert [f.id for f in findings] == [
        "assert.syntax", "assert.unknown", "key.unknown", "assert.option"]
    assert check_assertions(tmp_path / "none.yaml", POLICY)[1][0].id == "file.missing"


def test_the_schema_of_files_is_a_schema() -> None:
    document = schema.assertion_document()
    Draft202012Validator.check_schema(document)
    judge = Draft202012Validator(document)
    assert judge.is_valid({"shype-assert": 1, "assert": [{"never": "a -> b"}]})
    assert not judge.is_valid({"shype-assert": 1, "assert": [{"nver": "a -> b"}]})
