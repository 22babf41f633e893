"""What becomes of attested VMs whose host loses its trust, and when it has it again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host import control
from shype.host.agent import Agent
from shype.host.attest_result import Verdict
from shype.host.attestation import losses, standing
from shype.host.attestation.losses import Did, Loss, follow
from shype.host.kept import clock
from shype.host.launch import launch
from tests.host.attestation.attested import POLICY, attested_host, result
from tests.host.builders import config
from tests.host.invariants import assert_sound


def _host(tmp_path: Path, lost: str) -> Agent:
    """a-db (attested) and market (not) run on a trusted host."""
    agent = attested_host(tmp_path, POLICY.replace("lost: keep", f"lost: {lost}"))
    standing.keep(agent, result(agent))
    for vm in ("a-db", "market"):
        assert launch(agent, config(tmp_path, vm)).domid is not None
    assert [*follow(agent)] == []
    return agent


def _say(agent: Agent, verdict: Verdict, later: int, bundle: str | None = None) -> None:
    standing.keep(agent, result(agent, verdict, issued=int(time.time()) + later, bundle=bundle))


def _paused(agent: Agent) -> list[str]:
    return [d.name for d in agent.hypervisor.domains() if d.paused and d.domid]


def _did(found: list[Loss]) -> list[tuple[str, Did]]:
    return [(loss.vm, loss.did) for loss in found]


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.UNKNOWN])
def test_keep_tells_and_does_nothing(tmp_path: Path, verdict: Verdict) -> None:
    agent = _host(tmp_path, "keep")
    _say(agent, verdict, 1)
    found = [*follow(agent)]
    assert _did(found) == [("a-db", Did.KEPT)]
    assert found[0].decision is not None
    assert found[0].decision.id == "attested.untrusted"
    assert "may not go on" in found[0].decision.sentence
    assert _paused(agent) == []
    assert [*follow(agent)] == []  # it is told once
    _say(agent, Verdict.TRUSTED, 2)
    assert [*follow(agent)] == []
    _say(agent, verdict, 3)
    assert _did([*follow(agent)]) == [("a-db", Did.KEPT)]


def test_pause_stops_what_is_attested_until_the_host_is_trusted_again(tmp_path: Path) -> None:
    agent = _host(tmp_path, "pause")
    _say(agent, Verdict.FAILED, 1)
    assert _did([*follow(agent)]) == [("a-db", Did.PAUSED)]
    assert _paused(agent) == ["a-db"]
    assert [*follow(agent)] == []
    _say(agent, Verdict.TRUSTED, 2)
    found = [*follow(agent)]
    assert _did(found) == [("a-db", Did.RESUMED)]
    assert found[0].decision is None
    assert _paused(agent) == []
    assert_sound(agent)


def test_what_somebody_paused_is_not_resumed(tmp_path: Path) -> None:
    agent = _host(tmp_path, "keep")
    control.pause(agent, "a-db")
    _say(agent, Verdict.FAILED, 1)
    assert _did([*follow(agent)]) == [("a-db", Did.KEPT)]
    _say(agent, Verdict.TRUSTED, 2)
    assert [*follow(agent)] == []
    assert _paused(agent) == ["a-db"]


def test_work_that_was_announced_and_a_new_policy_lose_nothing(tmp_path: Path) -> None:
    agent = _host(tmp_path, "pause")
    _say(agent, Verdict.MAINTENANCE, 1)
    assert [*follow(agent)] == []
    _say(agent, Verdict.TRUSTED, 2, bundle="0" * 64)
    assert [*follow(agent)] == []
    assert launch(agent, config(tmp_path, "a-db-2", 'seclabel = "bank-a-db"')).decision.id == (
        "attested.other-policy")


def test_time_alone_loses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = _host(tmp_path, "pause")
    now = clock()
    monkeypatch.setattr(standing, "clock", lambda: now + 301)
    found = [*follow(agent)]
    assert _did(found) == [("a-db", Did.PAUSED)]
    assert found[0].decision is not None
    assert found[0].decision.id == "attested.expired"


def test_evacuation_takes_the_first_refuge_that_opens(tmp_path: Path) -> None:
    agent = _host(tmp_path, "evacuate, refuges: [host-b, host-c, host-d]")
    asked = []

    def move(_: Agent, vm: str, host: str) -> bool:
        asked.append(host)
        if host == "host-b":
            raise Unavailable("migrate.no-answer", "nobody there")
        agent.hypervisor.destroy(next(
            d.domid for d in agent.hypervisor.domains() if d.name == vm))
        return True

    _say(agent, Verdict.FAILED, 1)
    found = [*follow(agent, move=move)]
    assert _did(found) == [("a-db", Did.EVACUATED)]
    assert (found[0].host, asked) == ("host-c", ["host-b", "host-c"])
    assert [*follow(agent, move=move)] == []


def test_what_no_refuge_takes_is_paused(tmp_path: Path) -> None:
    agent = _host(tmp_path, "evacuate, refuges: [host-b]")
    _say(agent, Verdict.FAILED, 1)
    assert _did([*follow(agent, move=lambda *_: False)]) == [("a-db", Did.PAUSED)]
    assert _paused(agent) == ["a-db"]
    _say(agent, Verdict.TRUSTED, 2)
    assert _did([*follow(agent)]) == [("a-db", Did.RESUMED)]


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    agent = _host(tmp_path, "pause")
    (standing.directory(agent.state) / "losses.json").write_text("{}")
    _say(agent, Verdict.FAILED, 1)
    with pytest.raises(Unavailable) as caught:
        [*follow(agent)]
    assert caught.value.id == "losses.corrupt"
    assert losses.lost(agent) is not None
