"""The state of a host as a file: what is understood, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.analysis import state
from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.policy.mechanism import Mechanism
from tests.policy.strategies import PATIENT

ONE: dict[str, object] = {"domid": 1, "vm": "a", "label": "x"}
TWO: dict[str, object] = {"domid": 2, "vm": "b", "context": "u:r:l_y_t:s0"}
REFUSED = [
    ([], "it is not an object"),
    ({}, "it has no domains"),
    ({"domains": {}}, "domains is not a list"),
    ({"domains": [], "chanels": []}, "'chanels', which means nothing"),
    ({"domains": [{**ONE, "labl": "x"}]}, "domains[0] has the key 'labl'"),
    ({"domains": [{"vm": "a", "label": "x"}]}, "domains[0] has no domid"),
    ({"domains": [{**ONE, "domid": True}]}, "domid is not a whole number"),
    ({"domains": [{**ONE, "domid": -1}]}, "domid is not a whole number"),
    ({"domains": [{**ONE, "vm": ""}]}, "vm is not text"),
    ({"domains": [{**ONE, "vm": "\ud800"}]}, "not valid Unicode"),
    ({"domains": [{**ONE, "label": None}]}, "neither a label nor a context"),
    ({"domains": [ONE, ONE]}, "two domains have the same domid"),
    ({"domains": [{**ONE, "resources": [{"kind": "tape", "name": "x"}]}]}, "is not one of disk"),
    ({"domains": [{**ONE, "resources": [{"kind": "disk", "name": "x", "access": "rw"}]}]},
     "access is not one of read, write, read-write"),
    ({"domains": [ONE, TWO], "channels": [{"a": 1, "b": 2}]}, "exactly one of"),
    ({"domains": [ONE, TWO], "channels": [{"a": 1, "b": 2, "operation": "control.domain"}]},
     "is not one of event.send"),
    ({"domains": [ONE, TWO], "channels": [{"a": 1, "b": 2, "mechanism": "control"}]},
     "is not one of argo"),
    ({"domains": [ONE], "channels": [{"a": 1, "b": 2, "mechanism": "argo"}]}, "the domid 2"),
    ({"domains": [ONE], "channels": [{"a": 1, "b": "a", "mechanism": "argo"}]}, "to itself"),
    ({"domains": [ONE, {**TWO, "vm": "a"}], "channels": [{"a": 0, "b": "a", "mechanism": "argo"}]},
     "2 domains are named 'a'"),
    ({"domains": [], "window": {"open": 1}}, "window.open"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_be_understood_is_refused(value: object, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        state.from_json(value)
    assert refused.value.id == "state.invalid"
    assert says in refused.value.message


def test_what_nobody_said_is_none_and_not_empty() -> None:
    found = state.from_json({"domains": [ONE]})
    assert (found.channels, found.window_open, found.domains[0].uses) == (None, None, None)
    told = state.from_json({"domains": [{**ONE, "resources": []}], "channels": []})
    assert (told.channels, told.domains[0].uses) == ((), ())


def test_channels_lead_between_domains_by_id_or_name() -> None:
    found = state.from_json({"domains": [ONE, TWO], "channels": [
        {"a": "b", "b": 1, "operation": "grant.map_read"}, {"a": 0, "b": "a", "mechanism": "event"},
    ]})
    assert found.channels == (
        state.Channel(2, 1, Operation.MAP_READ), state.Channel(0, 1, Mechanism.EVENT),
    )


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"domains": 1e999}', "\x00", "nan"])
def test_what_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(BadInput, match=r"state\.invalid"):
        state.read(tmp_path / "state.json")
    with pytest.raises(BadInput, match=r"state\.unreadable"):
        state.read(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["domains", "domid", "vm", "label", "context", "channels", "a", "b",
                         "operation", "window", "open", "resources", "kind", "name"]),
        inner, max_size=4),
    max_leaves=8,
)


@given(json_values)
@PATIENT
def test_any_json_is_a_state_or_refused(value: object) -> None:
    try:
        state.from_json(json.loads(json.dumps(value)))
    except BadInput as error:
        assert error.id == "state.invalid"  # noqa: PT017
