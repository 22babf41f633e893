"""Lines of questions: what parses, what is refused, what is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.decision.query import Communicate, Launch, parse
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer, UnknownRunning
from shype.policy.names import LabelName

from .examples import banks

SERVER = SecurityServer(banks())


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("a b", Communicate("a", "b", Operation.EVENT_SEND)),
        ("  a\tb  grant \n", Communicate("a", "b", Operation.MAP_WRITE)),
        ("a b grant.copy_from", Communicate("a", "b", Operation.COPY_FROM)),
        ('{"a": "x y", "b": "b"}', Communicate("x y", "b", Operation.EVENT_SEND)),
        ('{"mechanism": "foreign", "a": "a", "b": "b"}',
         Communicate("a", "b", Operation.FOREIGN_MAP)),
        ('{"operation": "argo.send", "a": "a", "b": "b"}',
         Communicate("a", "b", Operation.ARGO_SEND)),
        ('{"launch": "l"}', Launch("l", ())),
        (
            '{"launch": "l", "running": [{"domid": 0, "vm": "x", "label": "y"}]}',
            Launch("l", (Running(0, "x", LabelName("y")),)),
        ),
    ],
)
def test_good_lines(line: str, query: Communicate | Launch) -> None:
    assert parse(line) == query


@pytest.mark.parametrize(
    "line",
    [
        "", "a", "a b event c", "a b telepathy", "{", "{}", "[1]", '{"a": "x"}', '{"a": 1, "b": 2}',
        '{"a": "x", "b": ""}', '{"a": "x", "b": "y", "c": "z"}', '{"a": "x", "a": "y", "b": "z"}',
        '{"a": "x", "b": "y", "mechanism": "event", "operation": "event.send"}',
        '{"a": "x", "b": "y", "mechanism": null}', '{"a": "x", "b": "y"} x',
        '{"launch": "l", "a": "x"}',
        '{"launch": "l", "running": {}}', '{"launch": "l", "running": [1]}',
        '{"launch": "l", "running": [{"domid": true, "vm": "x", "label": "y"}]}',
        '{"launch": "l", "running": [{"domid": -1, "vm": "x", "label": "y"}]}',
        '{"launch": "l", "running": [{"domid": 1, "vm": "x"}]}',
        '{"launch": "l", "running": [{"domid": 1, "vm": "x", "label": "y", "z": 1}]}',
        '{"a":' * 100_000,
    ],
)
def test_bad_lines(line: str) -> None:
    with pytest.raises(BadInput) as error:
        parse(line)
    assert error.value.id == "query.bad"


def ask(line: str) -> None:
    """Answer ``line``; only the errors that a line may cause pass."""
    try:
        parse(line).ask(SERVER)
    except BadInput as error:
        assert error.id in ("query.bad", "label.unknown", "label.ambiguous")  # noqa: PT017


@given(st.text())
def test_any_text_is_a_question_or_bad_input(line: str) -> None:
    ask(line)


KEYS = st.sampled_from([
    "a", "b", "mechanism", "operation", "launch", "running", "domid", "vm", "label",
])


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner),
))
def test_any_json_is_a_question_or_bad_input(value: object) -> None:
    ask(json.dumps(value))


def test_answers_repeat_the_question() -> None:
    query = parse("a-db bank-a-desk argo")
    assert query.ask(SERVER).id == "ste.shared"
    assert query.words == ("a-db", "bank-a-desk", "argo.send")
    assert query.to_json() == {"a": "a-db", "b": "bank-a-desk", "operation": "argo.send"}
    launch = parse('{"launch": "b-db", "running": [{"domid":1,"vm":"x","label":"bank-a-db"}]}')
    assert launch.ask(SERVER).id == "wall.conflict"
    assert (launch.words, launch.to_json()) == (("launch", "b-db"), {"launch": "b-db"})


def test_a_running_domain_is_named_by_its_label_only() -> None:
    query = parse('{"launch": "b-db", "running": [{"domid": 1, "vm": "a-db", "label": "a-db"}]}')
    with pytest.raises(UnknownRunning):
        query.ask(SERVER)
