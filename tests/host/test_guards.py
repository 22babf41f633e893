"""A guard's last day, as a host that runs its policy meets it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from shype.host import agent as agent_module
from shype.host import status as status_module
from shype.host.launch import Source, launch
from shype.host.status import status
from tests.host.builders import config, host
from tests.host.invariants import guests
from tests.today import set_today

GUARDED = """\
shype: 1
policy: {name: guarded, version: "1.0"}
coalitions: [ward, office]
labels:
  manager: {coalitions: all}
  nurse: {coalitions: [ward]}
  clerk: {coalitions: [office]}
guards:
  release: {from: ward, to: office, reason: letters, expires: "2999-06-01"}
host: {dom0: manager}
vms: {door: release}
"""


def on(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    """From now on it is ``day`` for the host."""
    set_today(monkeypatch, day, agent_module, status_module)


def test_a_guard_starts_until_its_last_day_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, date(2999, 6, 1))
    outcome = launch(host(tmp_path, GUARDED), config(tmp_path, "door"))
    assert (outcome.domid, outcome.source, outcome.decision.id) == (
        None, Source.AGENT, "guard.expired")
    on(monkeypatch, date(2999, 5, 31))
    agent = host(tmp_path, GUARDED)
    assert launch(agent, config(tmp_path, "door")).domid is not None
    assert guests(agent) == {"door": "release"}


def test_a_host_on_which_an_expired_guard_runs_is_unsound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, date(2999, 5, 31))
    agent = host(tmp_path, GUARDED)
    launch(agent, config(tmp_path, "door"))
    assert status(agent).sound
    on(monkeypatch, date(2999, 6, 1))
    now = status(agent)
    assert now.expired == ("door (domain 1, release, expired 2999-06-01)",)
    assert now.able
    assert not now.sound
