"""The published JSON Schema: valid itself, and of one mind with `shype check`."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shype.policy import schema
from shype.policy.grammar import (
    LATTICE_LIMIT,
    LEVEL_LIMIT,
    NAME_LIMIT,
    REASON_LIMIT,
    VM_LIMIT,
    has_date_form,
    is_name,
    is_reason,
    is_version,
    is_vm,
)
from shype.policy.loader import check_text
from shype.policy.mechanism import SWITCHABLE
from shype.policy.model import Policy
from shype.policy.yaml_source import parse
from tests.policy.bad_policies import CASES
from tests.policy.good_policies import GOOD, RICH
from tests.policy.policy_text import policy_yaml
from tests.policy.strategies import PATIENT, full_policies, policies


@cache
def _judge() -> Any:
    return Draft202012Validator(json.loads(schema.text()))


def test_it_is_a_valid_schema_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(schema.document())
    assert schema.document()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_its_limits_are_those_of_the_grammar() -> None:
    assert schema.document()["$defs"]["name"]["maxLength"] == NAME_LIMIT
    defs = schema.document()["$defs"]
    assert defs["vm"]["maxLength"] == VM_LIMIT
    assert defs["levelText"]["maxLength"] == defs["range"]["else"]["maxLength"] == LEVEL_LIMIT
    assert defs["lattice"]["properties"]["order"]["maxItems"] == LATTICE_LIMIT
    assert defs["lattice"]["properties"]["categories"]["maxItems"] == LATTICE_LIMIT
    assert defs["reason"]["maxLength"] == REASON_LIMIT
    assert set(defs["mechanism"]["enum"]) == {str(one) for one in SWITCHABLE}


@settings(PATIENT, max_examples=30)
@given(policies() | full_policies())
def test_plain_jsonschema_accepts_valid_policies(policy: Policy) -> None:
    _judge().validate(yaml.safe_load(policy_yaml(policy)))


def test_what_plain_jsonschema_rejects_check_rejects() -> None:
    """An editor that uses the schema never shows an error that `shype check` does not have."""
    judged = 0
    for bad in CASES:
        if bad.id.startswith(("yaml.", "file.")) or "\\n" in bad.new:
            continue
        judged += 1
        if not _judge().is_valid(yaml.safe_load(bad.text)):
            assert check_text(bad.text, "p.yaml")[0] is None, bad
    assert judged > 40
    assert _judge().is_valid(yaml.safe_load(GOOD))


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 3), st.just(1.5), st.text("ab-A1_ \n", max_size=3),
    st.sampled_from(["all", "a", [], {}, [[]], [{}], {"a": []}, ["a", "a"], ["a", 1], {"": None}]),
)


def _places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


@settings(PATIENT, max_examples=120)
@given(st.data())
def test_any_value_of_any_type_anywhere_is_judged_alike(data: st.DataObject) -> None:
    """Structure findings exist if plain jsonschema finds the policy invalid, and then only."""
    value: Any = yaml.safe_load(data.draw(st.sampled_from([GOOD, RICH])))
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(_places(value)[1:]))
        parent = value
        for step in path:
            parent = parent[step]
        parent[last] = copy.deepcopy(data.draw(_JUNK))  # may be changed in its turn
    text = json.dumps(value)  # which is YAML too
    root = parse(text, "p.yaml").root
    assert root is not None
    check_text(text, "p.yaml")
    assert (not schema.violations(root)) == _judge().is_valid(yaml.safe_load(text))


def test_patterns_and_grammar_agree() -> None:
    """Two spellings of one rule: the schema's for editors, the grammar's for the bundle."""
    words = [
        "a", "a-b", "a--b", "-a", "a-", "A", "a_b", "1a", "a1", "", "a\n", "ä", "a" * 48, "a" * 49,
        "1.0", "0.0", "01.0", "1", "1.0.0", "1.0\n", "１.0", "vm.x", "vm x", "@a", "a@b", "V" * 128,
        "V" * 129, "_x", " ", "\n", "\u3000", "r" * 1000, "r" * 1001, "2030-01-31", "2030-13-01",
        "2030-1-1", "2030-01-31\n", "2030-02-31",
        "２030-01-01", "6f0c2d8e-3f57-4b0f-9a0c-6a1f5a4f2b11",
    ]
    for name, rule in (
        ("name", is_name), ("version", is_version), ("vm", is_vm), ("date", has_date_form),
        ("reason", is_reason),
    ):
        judge = Draft202012Validator(schema.document()["$defs"][name])
        for word in words:
            assert judge.is_valid(word) == rule(word), (name, word)
