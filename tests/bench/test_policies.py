"""The generated policies are valid, and as large as they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.policies import TEAM, write
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.names import LabelName


@pytest.mark.parametrize("labels", [10, 25, 1000])
def test_as_many_labels_as_asked_for(tmp_path: Path, labels: int) -> None:
    loaded = load(write(tmp_path / "p.yaml", labels))
    assert len(loaded.policy.guests) == labels
    server = SecurityServer(loaded.policy)
    assert server.permits(LabelName("l0"), LabelName(f"l{TEAM - 1}"), Operation.MAP_WRITE)
    if labels > TEAM:
        assert not server.permits(LabelName("l0"), LabelName(f"l{TEAM}"), Operation.MAP_WRITE)
