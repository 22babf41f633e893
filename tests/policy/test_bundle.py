"""The policy as JSON: exact round trip, and nothing else is believed."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy.bundle import policy_from_json, policy_to_json
from shype.policy.model import Policy
from tests.policy.strategies import PATIENT, policies


@PATIENT
@given(policies())
def test_round_trip_is_exact(policy: Policy) -> None:
    """Spans and the order of the file survive canonical JSON, which sorts keys."""
    again = policy_from_json(json.loads(canonical.dumps(policy_to_json(policy))))
    assert again == policy
    assert list(again.labels) == list(policy.labels)
    assert list(again.assignments) == list(policy.assignments)
    assert canonical.dumps(policy_to_json(again)) == canonical.dumps(policy_to_json(policy))


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=4),
    st.just("\ud800"), st.just([]), st.just({}), st.just("all"), st.just([[]]), st.just(["x", "x"]),
)


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _places(item, (*path, index))
    return found


@PATIENT
@given(st.data(), policies())
def test_mutated_json_is_refused_or_valid(data: st.DataObject, policy: Policy) -> None:
    """Whatever one place is changed to: `bundle.corrupt`, or a policy that says just that."""
    value: object = json.loads(json.dumps(policy_to_json(policy)))
    path = data.draw(st.sampled_from(_places(value)))
    junk = data.draw(_JUNK)
    remove = data.draw(st.booleans())
    if not path:
        value = junk
    else:
        parent = value
        for step in path[:-1]:
            parent = parent[step]  # type: ignore[index]
        if remove:
            del parent[path[-1]]  # type: ignore[attr-defined]
        else:
            parent[path[-1]] = junk  # type: ignore[index]
    outcome = _read(copy.deepcopy(value))
    assert outcome in ("bundle.corrupt", value)


def _read(value: object) -> object:
    """The id of the refusal, or the policy as JSON again."""
    try:
        return policy_to_json(policy_from_json(value))
    except BadInput as error:
        return error.id


@PATIENT
@given(st.recursive(_JUNK, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_arbitrary_json_is_refused(value: object) -> None:
    assert _read(value) == "bundle.corrupt"


def _banks() -> dict[str, object]:
    at = ["p.yaml", 1, 1]
    return {
        "format": 1, "name": "banks", "version": "1.0", "source": "p.yaml",
        "coalitions": [{"name": "a", "span": at}, {"name": "b", "span": at}],
        "walls": [{"name": "w", "members": ["x", "y"], "span": at}],
        "labels": [
            {"name": "boss", "coalitions": ["a", "b"], "members": [], "span": at},
            {"name": "la", "coalitions": ["a"], "members": ["x"], "span": at},
            {"name": "unlabeled", "coalitions": [], "members": [], "span": at},
        ],
        "host": {"dom0": "boss", "drivers": [], "minimum": "enforcing", "span": at},
        "assignments": [{"vm": "vm1", "label": "la", "span": at}],
    }


def test_the_base_of_the_table_is_valid() -> None:
    assert policy_to_json(policy_from_json(_banks())) == _banks()


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        (("format",), 2, "format"),
        (("format",), True, "format"),
        (("version",), "1", "spelled"),
        (("source",), "\udcff", "Unicode"),
        (("coalitions",), [], "coalitions are empty"),
        (("coalitions", 1, "name"), "all", "named `all`"),
        (("coalitions", 1, "name"), "a", "two entries"),
        (("walls", 0, "members"), ["x"], "fewer than two"),
        (("walls", 0, "members"), ["y", "x"], "not sorted"),
        (("labels", 1, "coalitions"), ["zz"], "undeclared coalition"),
        (("labels", 1, "members"), ["zz"], "undeclared member"),
        (("labels", 1, "members"), ["x", "y"], "conflicts with itself"),
        (("labels", 0, "members"), ["x"], "dom0's label has wall"),
        (("labels", 0, "span"), ["p.yaml", 0, 1], "from 1"),
        (("labels", 0, "span"), ["p.yaml", 1], "file, line"),
        (("host", "dom0"), "nobody", "dom0's label is undeclared"),
        (("host", "dom0"), "unlabeled", "dom0's label is undeclared"),
        (("host", "drivers"), ["boss"], "driver"),
        (("host", "drivers"), ["unlabeled"], "driver"),
        (("host", "minimum"), "none", "enforcing"),
        (("assignments", 0, "label"), "boss", "the VM `vm1`"),
        (("assignments", 0, "vm"), "a b", "spelled"),
    ],
)
def test_each_rule_is_checked_again(path: tuple[str | int, ...], new: object, says: str) -> None:
    value = _banks()
    parent: object = value
    for step in path[:-1]:
        parent = parent[step]  # type: ignore[index]
    parent[path[-1]] = new  # type: ignore[index]
    with pytest.raises(BadInput) as caught:
        policy_from_json(value)
    assert caught.value.id == "bundle.corrupt"
    assert says in caught.value.message
