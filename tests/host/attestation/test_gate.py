"""VMs of attested labels start and go on only while the host has standing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.decision.decision import Decision
from shype.host import control
from shype.host.agent import Agent
from shype.host.attest_result import Reason, Verdict
from shype.host.attestation import standing
from shype.host.audit.reader import records
from shype.host.kept import clock
from shype.host.launch import launch
from shype.host.points import Point
from shype.host.status import status
from tests.host.attestation.attested import (
    AK,
    OTHER_AK,
    POLICY,
    STRANGER,
    attested_host,
    enrol,
    result,
)
from tests.host.builders import config
from tests.host.invariants import assert_sound, guests


def _start(agent: Agent, tmp_path: Path, vm: str = "a-db") -> str:
    return launch(agent, config(tmp_path, vm)).decision.id


def test_a_trusted_host_starts_it_and_others_do_not_need_that(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    assert _start(agent, tmp_path, "market") == "wall.free"
    refused = launch(agent, config(tmp_path, "a-db")).decision
    assert refused.id == "attested.none"
    assert refused.sentence == (
        "bank-a-db may not start: it is attested, and the host has no attestation result.")
    assert [span.line for span in refused.rules] == [7, 15]
    standing.keep(agent, result(agent))
    assert _start(agent, tmp_path) == "wall.free"
    assert_sound(agent)


@pytest.mark.parametrize(("verdict", "id"), [
    (Verdict.MAINTENANCE, "attested.untrusted"), (Verdict.UNKNOWN, "attested.untrusted"),
    (Verdict.FAILED, "attested.untrusted")])
def test_no_other_verdict_opens_it(tmp_path: Path, verdict: Verdict, id: str) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent, verdict))
    refused = launch(agent, config(tmp_path, "a-db")).decision
    assert refused.id == id
    assert f"calls the host {verdict}: an event of the log is not known" in refused.sentence


def test_status_advises_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To renew is no help to a host that is not enrolled, nor against what was measured."""
    agent = attested_host(tmp_path, enrolled=False)

    def point() -> Point:
        return next(point for point in status(agent).points if point.name == "attestation")

    assert point().fix.startswith("shype attest enrol NAME --verifier URL, and then")
    enrol(agent, AK)
    assert point().fix.startswith("shype attest renew; until then")
    why = Reason("event.unknown", "label: no reference value accepts it")
    standing.keep(agent, result(agent, Verdict.UNKNOWN, reasons=[why]))
    assert point().said.endswith("no reference value accepts it [event.unknown]")
    assert point().fix.startswith("publish reference values that know it")
    assert f"{point().said}. Fix: publish" in str(point())
    with monkeypatch.context() as patch:
        patch.setattr("shype.host.attestation.standing.boot_id", lambda: "another")
        assert point().fix.startswith("shype attest renew;")
    later = int(time.time()) + 1
    standing.keep(agent, result(agent, Verdict.FAILED, issued=later, reasons=[Reason("mode", "m")]))
    assert "docs/how-to/attestation.md" in point().fix
    standing.keep(agent, result(agent, issued=later + 1, bundle="0" * 64))
    assert "reference values of the policy in force" in point().fix
    enrol(agent, OTHER_AK)
    assert point().fix.startswith("shype attest enrol again")


def test_the_result_is_about_the_policy_in_force(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent, bundle="0" * 64))
    assert _start(agent, tmp_path) == "attested.other-policy"


@pytest.mark.parametrize(("change", "id"), [
    ({"ak": OTHER_AK}, "result.other-host"), ({"key": STRANGER}, "result.unsigned"),
    ({"issued": 1_000_000_000}, "result.expired"), ({"issued": 2_000_000_000}, "result.not-yet"),
])
def test_what_is_no_word_of_the_verifier_about_this_host_is_not_taken(
    tmp_path: Path, change: dict[str, object], id: str
) -> None:
    agent = attested_host(tmp_path)
    with pytest.raises(BadInput) as caught:
        standing.keep(agent, result(agent, **change))  # type: ignore[arg-type]
    assert caught.value.id == id
    assert _start(agent, tmp_path) == "attested.none"


def test_an_answer_to_another_challenge_is_not_taken(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    with pytest.raises(BadInput) as caught:
        standing.keep(agent, result(agent, nonce="11" * 20), nonce="22" * 20)
    assert caught.value.id == "result.other-challenge"


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    good = result(agent)
    for at in range(0, len(good), 7):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
        with pytest.raises(BadInput) as caught:
            standing.keep(agent, bad)
        assert caught.value.id.startswith("result.")
    assert standing.standing(agent) is None


def test_a_result_never_replaces_a_newer_one(tmp_path: Path) -> None:
    agent, now = attested_host(tmp_path), int(time.time())
    old, new = result(agent, issued=now - 5), result(agent, Verdict.FAILED, issued=now)
    standing.keep(agent, old)
    standing.keep(agent, new)
    for replayed in (old, result(agent, issued=now)):
        with pytest.raises(BadInput) as caught:
            standing.keep(agent, replayed)
        assert caught.value.id == "result.older"
    assert _start(agent, tmp_path) == "attested.untrusted"
    standing.keep(agent, result(agent, issued=now, nonce="33" * 20), nonce="33" * 20)
    assert _start(agent, tmp_path) == "wall.free"  # that one answers a challenge of just now


def test_giving_the_same_result_again_does_not_make_it_younger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = attested_host(tmp_path)
    good = result(agent)
    standing.keep(agent, good)
    later = clock() + 301  # and whatever the time of day says
    monkeypatch.setattr(standing, "clock", lambda: later)
    standing.keep(agent, good)
    assert _start(agent, tmp_path) == "attested.expired"


def test_a_result_ends_with_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent))
    monkeypatch.setattr(standing, "boot_id", lambda: "another")
    assert _start(agent, tmp_path) == "attested.none"


def test_a_host_that_is_not_enrolled_takes_none(tmp_path: Path) -> None:
    agent = attested_host(tmp_path, enrolled=False)
    with pytest.raises(BadInput) as caught:
        standing.keep(agent, result(agent))
    assert caught.value.id == "attestation.not-enrolled"
    enrol(agent, OTHER_AK)
    with pytest.raises(BadInput) as caught:
        standing.keep(agent, result(agent))
    assert caught.value.id == "result.other-host"


def test_a_policy_without_verifiers_takes_none(tmp_path: Path) -> None:
    text = POLICY[:POLICY.index("attestation:")].replace(", attested: true", "")
    agent = attested_host(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        standing.keep(agent, result(agent))
    assert caught.value.id == "attestation.no-verifier"
    assert _start(agent, tmp_path) == "wall.free"


def test_a_damaged_record_is_an_error_and_not_a_refusal(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent))
    path = standing.directory(agent.state) / standing.STANDING
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9], b"{}", whole.replace(b'"came":', b'"come":')):
        path.write_bytes(damaged)
        with pytest.raises(Unavailable) as caught:
            launch(agent, config(tmp_path, "a-db"))
        assert caught.value.id == "attestation.corrupt"
    assert not guests(agent)


def test_a_damaged_key_is_an_error_too(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent))
    for damaged in ("", "[]", "{}", '{"public": 1}', '{"public": "AA"}'):
        (standing.directory(agent.state) / standing.KEY).write_text(damaged)
        with pytest.raises(Unavailable) as caught:
            launch(agent, config(tmp_path, "a-db"))
        assert caught.value.id == "attestation.corrupt"


def test_a_paused_vm_goes_on_only_where_it_could_start(tmp_path: Path) -> None:
    agent = attested_host(tmp_path)
    standing.keep(agent, result(agent))
    launch(agent, config(tmp_path, "a-db"))
    control.pause(agent, "a-db")
    standing.keep(agent, result(agent, Verdict.FAILED, issued=int(time.time()) + 1))
    refused = control.unpause(agent, "a-db")
    assert isinstance(refused, Decision)
    assert refused.id == "attested.untrusted"
    assert refused.sentence.startswith("bank-a-db may not go on: ")
    standing.keep(agent, result(agent, issued=int(time.time()) + 2))
    assert not isinstance(control.unpause(agent, "a-db"), Decision)
    kinds = [(r["kind"], r["result"]) for r in _records(agent) if r["kind"] == "vm.unpause"]
    assert kinds == [("vm.unpause", "refused"), ("vm.unpause", "done")]


def _records(agent: Agent) -> list[dict[str, object]]:
    return [dict(r.body) for r in records(agent.trail.directory)]
