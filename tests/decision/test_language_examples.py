"""The examples of levels and guards decide as their comments say."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.names import LabelName

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TODAY = date(2030, 1, 1)


def _server(name: str) -> SecurityServer:
    loaded = load(EXAMPLES / f"{name}.yaml", TODAY)
    assert loaded.warnings == ()
    return SecurityServer(loaded.policy, today=TODAY)


_EVENT, _READ, _WRITE = Operation.EVENT_SEND, Operation.MAP_READ, Operation.MAP_WRITE
_COPY, _ARGO, _FRAME = Operation.COPY_TO, Operation.ARGO_SEND, Operation.NETWORK_SEND
_DISK = Operation.DISK_WRITE


@pytest.mark.parametrize(
    ("example", "subject", "object", "operation", "permitted"),
    [
        ("hospital", "surgery", "maternity", _FRAME, True),
        ("hospital", "surgery", "laboratory", _DISK, True),
        ("hospital", "surgery", "laboratory", _FRAME, False),
        ("hospital", "laboratory", "statistics", _COPY, False),
        ("hospital", "laboratory", "anonymiser", _COPY, True),
        ("hospital", "anonymiser", "statistics", _COPY, True),
        ("hospital", "statistics", "anonymiser", _COPY, False),
        ("hospital", "anonymiser", "laboratory", _COPY, False),
        ("hospital", "trial-portal", "statistics", _ARGO, False),
        ("classified", "planning", "press", _READ, True),
        ("classified", "planning", "press", _WRITE, False),
        ("classified", "press", "planning", _READ, False),
        ("classified", "planning", "personnel", _READ, False),
        ("classified", "command", "personnel", _READ, True),
        ("classified", "press", "collector", _ARGO, True),
        ("classified", "collector", "press", _ARGO, False),
        ("classified", "planning", "website", _COPY, False),
        ("classified", "planning", "release", _COPY, True),
        ("classified", "release", "website", _COPY, True),
        ("classified", "website", "release", _COPY, False),
        ("classified", "command", "release", _COPY, False),
        ("classified", "press", "net-card", _WRITE, True),
        ("classified", "planning", "net-card", _WRITE, True),
        ("classified", "personnel", "net-card", _EVENT, False),
    ],
)
def test_the_examples_say_what_their_comments_say(
    example: str, subject: str, object: str, operation: Operation, permitted: bool
) -> None:
    server = _server(example)
    found = server.decide(LabelName(subject), LabelName(object), operation)
    assert found.permitted == permitted, found
