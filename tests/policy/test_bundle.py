"""The policy as JSON: exact round trip, and nothing else is believed."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy.bundle import policy_from_json, policy_to_json
from shype.policy.loader import check_text
from shype.policy.model import Policy
from tests.policy.good_policies import RICH, TODAY
from tests.policy.strategies import PATIENT, full_policies, policies


@settings(PATIENT, max_examples=40)
@given(policies() | full_policies())
def test_round_trip_is_exact(policy: Policy) -> None:
    """Spans and the order of the file survive canonical JSON, which sorts keys."""
    again = policy_from_json(json.loads(canonical.dumps(policy_to_json(policy))))
    assert again == policy
    assert list(again.labels) == list(policy.labels)
    assert list(again.guards) == list(policy.guards)
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


@settings(PATIENT, max_examples=60)
@given(st.data(), policies() | full_policies())
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


def _clinic() -> dict[str, object]:
    policy, findings = check_text(RICH, "p.yaml", TODAY)
    assert policy is not None, findings
    value = policy_to_json(policy)
    assert isinstance(value, dict)
    return value


def test_the_base_of_the_table_is_valid() -> None:
    assert policy_to_json(policy_from_json(_clinic())) == _clinic()


_LOW: object = {"rank": 0, "categories": []}
_HIGH: object = {"rank": 2, "categories": []}


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        (("format",), 1, "format"),
        (("format",), True, "format"),
        (("version",), "1", "spelled"),
        (("replaces",), "1.4", "cannot replace"),
        (("was",), "clinic", "named as it is"),
        (("source",), "\udcff", "Unicode"),
        (("coalitions",), [], "coalitions are empty"),
        (("coalitions", 1, "name"), "all", "named `all`"),
        (("coalitions", 1, "name"), "wards", "two entries"),
        (("coalitions", 1, "mechanisms"), ["control"], "cannot be switched"),
        (("coalitions", 1, "mechanisms"), ["grant", "event"], "not sorted"),
        (("coalitions", 1, "write_up"), 1, "true or false"),
        (("coalitions", 1, "was"), "wards", "is still there"),
        (("walls", 0, "members"), ["x"], "fewer than two"),
        (("walls", 0, "members"), ["red", "blue"], "not sorted"),
        (("walls", 0, "was"), "firms", "is still there"),
        (("levels", "order"), [], "no order"),
        (("levels", "order"), ["public", "public", "secret"], "twice"),
        (("levels", "order"), [f"l{i}" for i in range(1025)], "more than 1024"),
        (("levels", "categories"), ["all", "names"], "named `all`"),
        (("levels",), None, "has a level"),
        (("labels", 0, "level"), {"low": _LOW, "high": _LOW}, "`boss` has a level"),
        (("labels", 2, "level"), None, "`ward` has no level"),
        (("labels", 2, "integrity"), None, "`ward` has no integrity"),
        (("labels", 2, "level"), {"low": _LOW, "high": _HIGH}, "not trusted"),
        (("labels", 1, "level"), {"low": _HIGH, "high": _LOW}, "upwards"),
        (("labels", 2, "level", "low", "rank"), 3, "not declared"),
        (("labels", 2, "level", "low", "rank"), -1, "from 0"),
        (("labels", 2, "level", "low", "categories"), ["x"], "not declared"),
        (("labels", 3, "coalitions"), ["zz"], "undeclared coalition"),
        (("labels", 3, "members"), ["zz"], "undeclared member"),
        (("labels", 3, "members"), ["blue", "red"], "conflicts with itself"),
        (("labels", 3, "was"), "station", "renamed twice"),
        (("labels", 0, "members"), ["red"], "dom0's label has wall"),
        (("labels", 0, "object-manager"), True, "is an object manager"),
        (("labels", 0, "span"), ["p.yaml", 0, 1], "from 1"),
        (("labels", 0, "span"), ["p.yaml", 1], "file, line"),
        (("labels", 5, "coalitions"), ["wards"], "one with coalitions"),
        (("guards", 0, "name"), "nobody", "has no label"),
        (("guards", 0, "from"), "world", "does not join"),
        (("guards", 0, "to"), "zz", "does not join"),
        (("guards", 0, "reason"), "  ", "spelled"),
        (("guards", 0, "expires"), "2099-02-30", "not a day"),
        (("resource_labels", 0, "name"), None, "no name"),
        (("resource_labels", 0, "level"), None, "has no level"),
        (("resource_labels", 0, "level", "rank"), 7, "not declared"),
        (("resource_labels", 0, "coalitions"), ["zz"], "undeclared coalition"),
        (("resource_labels", 0, "inaccessible"), True, "has coalitions or levels"),
        (("resource_labels", 0, "inaccessible"), 0, "true or false"),
        (("resource_labels", 0, "was"), "tpm", "is still there"),
        (("resources", 0, "kind"), "tape", "no kind"),
        (("resources", 0, "pattern"), "dev", "absolute path"),
        (("resources", 3, "pattern"), "03:00.0", "canonical"),
        (("resources", 0, "label"), "nobody", "not declared"),
        (("resources", 1, "label", "name"), "mail", "has a name"),
        (("resources", 1, "pattern"), "/dev/vg0/*-x", "differently"),
        (("retired", 0, "name"), "ward", "still there"),
        (("retired", 0, "members"), ["zz"], "undeclared member"),
        (("retired", 0, "name"), "station", "renamed"),
        (("host", "drivers"), ["nic", "release"], "the guard `release` is"),
        (("host", "dom0"), "nobody", "dom0's label is undeclared"),
        (("host", "drivers"), ["nic", "unlabeled"], "driver"),
        (("host", "dom0"), "unlabeled", "dom0's label is undeclared"),
        (("host", "drivers"), ["boss", "nic"], "driver"),
        (("host", "minimum"), "none", "enforcing"),
        (("assignments", 0, "label"), "boss", "the VM `vm-1`"),
        (("assignments", 0, "vm"), "a b", "spelled"),
    ],
)
def test_each_rule_is_checked_again(path: tuple[str | int, ...], new: object, says: str) -> None:
    value = _clinic()
    parent: object = value
    for step in path[:-1]:
        parent = parent[step]  # type: ignore[index]
    parent[path[-1]] = new  # type: ignore[index]
    with pytest.raises(BadInput) as caught:
        policy_from_json(value)
    assert caught.value.id == "bundle.corrupt"
    assert says in caught.value.message
