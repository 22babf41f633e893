"""Arrays of questions get the answers that single questions get."""

from __future__ import annotations

import ast
import itertools
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.decision import batch
from shype.decision.batch import IDS, Batch
from shype.decision.operation import Operation
from shype.decision.rights import Classes
from shype.decision.security_server import SecurityServer
from shype.decision.sharing import INDEX, Sharing
from shype.policy.model import Policy, Retired
from shype.policy.names import LabelName
from shype.policy.source import Span
from tests.policy.strategies import PATIENT, full_policies

from .examples import banks

SERVER = SecurityServer(banks())
SEND = INDEX[Operation.EVENT_SEND]


def every_question(server: SecurityServer) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices of all subjects, objects and operations, crossed."""
    labels = np.arange(len(server.batch.order))
    grid = np.meshgrid(labels, labels, np.arange(len(Operation)), indexing="ij")
    return tuple(axis.reshape(-1) for axis in grid)


def with_tombstone(policy: Policy) -> Policy:
    """The policy with a retired label."""
    name = LabelName("gone")
    return replace(policy, retired={name: Retired(name, Span("p.yaml", 1, 1))})


@given(policy=full_policies(), tombstone=st.booleans(), today=st.none() | st.dates())
@settings(PATIENT, max_examples=60)
def test_same_answers_as_one_by_one(policy: Policy, tombstone: bool, today: date | None) -> None:
    policy = with_tombstone(policy) if tombstone else policy
    server = SecurityServer(policy, today=today)
    classes = Classes(policy)
    s, o, op = every_question(server)
    singles = [
        server.decide(subject, object, operation)
        for subject, object, operation in itertools.product(
            server.batch.order, server.batch.order, Operation)
    ]
    for dense in (0, 4096):  # computed for each question, and looked up in a table
        many = Batch(classes, Sharing(policy, classes, today), dense=dense)
        assert [IDS[code] for code in many.decide(s, o, op)] == [d.id for d in singles]
        assert many.permits(s, o, op).tolist() == [d.permitted for d in singles]


def test_labels_in_very_many_coalitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MEMBERSHIPS", 3)
    many = Batch(SERVER.classes, Sharing(SERVER.policy, SERVER.classes, None), dense=0)
    s, o, op = every_question(SERVER)
    assert (many.decide(s, o, op) == SERVER.decide_many_ids(s, o, op)).all()


def test_more_questions_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    s, o, op = every_question(SERVER)
    expected = SERVER.decide_many(s, o, op)
    monkeypatch.setattr(batch, "_BLOCK", 7)
    assert (SERVER.decide_many(s, o, op) == expected).all()


def test_names_and_broadcasting() -> None:
    someone, others = SERVER.indices(["bank-a-db"]), SERVER.indices(["bank-a-desk", "bank-b-db"])
    assert SERVER.decide_many(someone, others, SEND).tolist() == [True, False]
    assert SERVER.decide_many([], [], []).tolist() == []
    assert SERVER.decide_many(0, 0, SEND).shape == ()


@pytest.mark.parametrize(("s", "o", "op", "id", "says"), [
    ([0, -1], [0, 0], SEND, "batch.index", "subjects are no indices: -1 (position 1)"),
    ([0, 0], [99, 98], SEND, "batch.index", "objects are no indices: 99 (position 0) and 98"),
    ([0], [0], [12], "batch.index", "operations are no indices: 12 (position 0)"),
    ([0] * 9, [99] * 9, SEND, "batch.index", "(position 3) and 5 more"),
    ([0.5], [0], SEND, "batch.index", "subjects are no whole numbers (float64)"),
    (["bank-a-db"], [0], SEND, "batch.index", "subjects are no whole numbers"),
    ([True], [0], SEND, "batch.index", "subjects are no whole numbers (bool)"),
    ([0, 0], [0, 0, 0], SEND, "batch.shape", "(2,), (3,) and ()"),
    ([[0], [0, 0]], [0], SEND, "batch.shape", "subjects are no array"),
])
def test_what_is_no_question_is_refused(
    s: object, o: object, op: object, id: str, says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        SERVER.decide_many(s, o, op)  # type: ignore[arg-type]
    assert caught.value.id == id
    assert says in caught.value.message


def test_unknown_names_are_told_with_their_positions() -> None:
    with pytest.raises(BadInput, match=r"'x' \(position 1\) and 'y' \(position 2\)") as caught:
        SERVER.indices(["bank-a-db", "x", "y"])
    assert caught.value.id == "label.unknown"


def test_numpy_is_imported_only_by_the_batch_and_only_when_it_is_used() -> None:
    source = Path(batch.__file__).parent
    for module in source.glob("*.py"):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom) and module.name != "batch.py":
                names = ast.unparse(node)
                assert "numpy" not in names, module
                assert "decision.batch" not in names, module
