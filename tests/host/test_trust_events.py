"""Which keys are trusted is on record, once per change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shype.host.agent import Agent
from shype.host.audit.reader import records
from shype.host.trust_events import record_keys
from shype.policy.ed25519 import PrivateKey
from tests.host.builders import host


def seen(agent: Agent) -> list[dict[str, Any]]:
    """The details of what was recorded."""
    return [dict(r.body["details"]) for r in records(agent.trail.directory)
            if r.body["kind"] == "keys.trust"]


def test_every_change_once(tmp_path: Path) -> None:
    agent, keys = host(tmp_path), tmp_path / "keys"
    keys.mkdir(mode=0o755)
    one, two = PrivateKey.generate().public, PrivateKey.generate().public
    (keys / "one.pub").write_bytes(one.pem())
    record_keys(agent, keys)
    record_keys(agent, keys)
    assert seen(agent) == [{"trusted": [one.id], "added": [one.id], "removed": []}]
    (keys / "two.pub").write_bytes(two.pem())
    (keys / "one.pub").unlink()
    record_keys(agent, keys)
    assert seen(agent)[1:] == [{"trusted": [two.id], "added": [two.id], "removed": [one.id]}]
    (agent.trail.directory / "keys.json").write_bytes(b"[")
    record_keys(agent, keys)
    assert seen(agent)[2:] == [{"trusted": [two.id], "added": [two.id], "removed": []}]


def test_it_stands_in_nobodys_way(tmp_path: Path) -> None:
    agent, keys = host(tmp_path), tmp_path / "keys"
    keys.mkdir(mode=0o755)
    (keys / "one.pub").write_bytes(PrivateKey.generate().public.pem())
    agent.state.parent.mkdir(exist_ok=True)
    os.symlink("/dev/null", agent.state)  # noqa: PTH211 - a state that cannot be made
    record_keys(agent, keys)
