"""An attested VM moves only between hosts that have proved to each other that they are trusted."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.attest_result import Verdict
from shype.host.attestation import peers, standing
from shype.host.attestation.peers import Passport, Role
from shype.host.kept import clock
from shype.host.launch import launch
from shype.host.migration import Migrated, migrate
from shype.policy.ed25519 import PrivateKey
from tests.host.attestation.attested import (
    POLICY,
    STRANGER,
    KeyAttester,
    attested_host,
    enrol,
    result,
)
from tests.host.builders import config
from tests.host.invariants import assert_sound, guests

#: What ssh would run on the other host. It goes wrong in the way that the test wants.
RECEIVER = """\
import json, sys
from pathlib import Path
from shype.base.errors import ShypeError
from shype.host.agent import Agent
from shype.host.attestation import peers
from shype.host.drivers.model import ModelHypervisor
from shype.host.receiving import Announcement, answer, receive
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import load_bundle
from tests.host.attestation.attested import KeyAttester

directory, key, how, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[5]
bundle = load_bundle(directory / "bundle")
agent = Agent(bundle, ModelHypervisor(bundle, directory / "model.json"), directory / "state",
              KeyAttester(PrivateKey(bytes.fromhex(key)), 2 if how == "rebooted" else 1))
try:
    if words.endswith("--challenge"):
        print(json.dumps({"challenge": peers.challenge(agent).hex()}))
    elif words.endswith("--query"):
        announced = Announcement.loads(sys.stdin.buffer.read())
        said = answer(agent, announced, "host1").to_json()
        if how == "silent":
            said["passport"] = None
        if how == "mirror":
            said["passport"] = announced.passport.to_json()
        if how == "again":
            said = answer(agent, announced, "host1").to_json()
        print(json.dumps(said))
    else:
        outcome = receive(agent, 0, 1, "host1")
        if outcome.domid is None:
            sys.exit(outcome.decision.sentence)
except ShypeError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def keys() -> tuple[PrivateKey, PrivateKey]:
    return PrivateKey.generate(), PrivateKey.generate()


@pytest.fixture
def hosts(tmp_path: Path, keys: tuple[PrivateKey, PrivateKey]) -> tuple[Agent, Agent]:
    """Two trusted hosts; a-db runs on the first."""
    made = []
    for name, key in zip(("one", "two"), keys, strict=True):
        (tmp_path / name).mkdir()
        agent = attested_host(tmp_path / name, POLICY, enrolled=False)
        enrol(agent, key.public.raw)
        made.append(replace(agent, attester=KeyAttester(key)))
    _trust(made[0], keys[0], "host1")
    _trust(made[1], keys[1], "host2")
    launch(made[0], config(tmp_path, "a-db"))
    return made[0], made[1]


def _trust(agent: Agent, key: PrivateKey, name: str, verdict: Verdict = Verdict.TRUSTED,
           later: int = 0) -> None:
    standing.keep(agent, result(agent, verdict, ak=key.public.raw, name=name,
                                issued=int(time.time()) + later))


def _move(one: Agent, two: Agent, how: str = "") -> Migrated:
    key = two.attester
    assert isinstance(key, KeyAttester)
    ssh = (sys.executable, "-c", RECEIVER, str(two.state.parent), key.key.raw.hex(), how)
    return migrate(one, "a-db", "root@host2", ssh)


def test_it_moves_between_trusted_hosts(hosts: tuple[Agent, Agent]) -> None:
    one, two = hosts
    assert _move(one, two).refusal is None
    assert (guests(one), guests(two)) == ({}, {"a-db": "bank-a-db"})
    assert_sound(one)
    assert_sound(two)


@pytest.mark.parametrize(("how", "says"), [
    ("silent", "has shown no attestation result"),
    ("mirror", "this host's own attestation result"),
    ("again", "does not answer a challenge of this host"),
    ("rebooted", "rebooted since"),
])
def test_a_receiver_that_proves_nothing_gets_nothing(
    hosts: tuple[Agent, Agent], how: str, says: str
) -> None:
    done = _move(*hosts, how)
    assert done.refusal is not None
    assert done.refusal[0] == "peer.unattested"
    assert says in done.refusal[1]
    assert (guests(hosts[0]), guests(hosts[1])) == ({"a-db": "bank-a-db"}, {})


def test_a_receiver_that_is_enrolled_under_another_name_is_another_host(
    hosts: tuple[Agent, Agent], keys: tuple[PrivateKey, PrivateKey]
) -> None:
    _trust(hosts[1], keys[1], "host3", later=1)
    done = _move(*hosts)
    assert done.refusal is not None
    assert "reached as host2, and is enrolled as host3" in done.refusal[1]


def test_neither_side_takes_part_without_trust_of_its_own(
    hosts: tuple[Agent, Agent], keys: tuple[PrivateKey, PrivateKey]
) -> None:
    one, two = hosts
    _trust(two, keys[1], "host2", Verdict.FAILED, later=1)
    done = _move(one, two)
    assert done.refusal is not None
    assert done.refusal[0] == "attested.untrusted"
    _trust(one, keys[0], "host1", Verdict.UNKNOWN, later=1)
    done = _move(one, two)
    assert done.refusal is not None
    assert done.refusal[0] == "attested.untrusted"
    assert "bank-a-db may not move" in done.refusal[1]
    assert guests(one) == {"a-db": "bank-a-db"}


def test_who_sends_without_having_proved_anything_is_refused(
    hosts: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shype.host.migration._ask", lambda *args: None)
    with pytest.raises(Unavailable) as caught:
        _move(*hosts)
    assert caught.value.id == "migrate.failed"
    assert "has not proved anything" in caught.value.message
    assert guests(hosts[1]) == {}


def test_a_host_without_a_tpm_says_so(hosts: tuple[Agent, Agent]) -> None:
    one, two = hosts
    with pytest.raises(Unavailable) as caught:
        _move(replace(one, attester=None), two)
    assert caught.value.id == "attestation.no-tpm"


def test_a_proof_is_for_one_role_one_vm_one_challenge(hosts: tuple[Agent, Agent]) -> None:
    one, two = hosts
    ours = peers.fresh_nonce()
    shown = peers.passport(two, Role.RECEIVER, ours, "uuid")
    assert peers.doubt(one, shown, Role.RECEIVER, ours, "uuid", "host2") is None
    for role, nonce, uuid in (
        (Role.SENDER, ours, "uuid"), (Role.RECEIVER, peers.fresh_nonce(), "uuid"),
        (Role.RECEIVER, ours, "other"),
    ):
        found = peers.doubt(one, shown, role, nonce, uuid, "host2")
        assert found is not None
        assert found.id == "quote.signature"


def test_a_challenge_is_good_once_and_not_for_long(
    hosts: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hosts[0]
    nonce = peers.challenge(one)
    assert peers.answers(one, nonce)
    assert not peers.answers(one, nonce)
    assert not peers.answers(one, peers.fresh_nonce())
    nonce = peers.challenge(one)
    for _ in range(peers.MOST):
        peers.challenge(one)
    assert not peers.answers(one, nonce)  # others have come since
    nonce, now = peers.challenge(one), clock()
    monkeypatch.setattr(peers, "clock", lambda: now + peers.GOOD_FOR + 2)
    assert not peers.answers(one, nonce)


@pytest.mark.parametrize("value", [
    None, {}, {"result": "", "proof": "", "nonce": ""}, {"result": 1, "proof": 2, "nonce": 3},
    {"result": "AA", "proof": "AA==", "nonce": "00" * 32},
    {"result": "AA==", "proof": "AA==", "nonce": "00" * 31},
])
def test_what_is_no_passport_is_none(value: object) -> None:
    assert Passport.from_json(value) is None


def test_an_expired_host_is_left_only_where_the_policy_evacuates(
    tmp_path: Path, keys: tuple[PrivateKey, PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys[0]
    for lost, allowed in (("keep", False), ("evacuate, refuges: [host2]", True)):
        place = tmp_path / lost[:4]
        place.mkdir()
        agent = replace(attested_host(place, POLICY.replace("lost: keep", f"lost: {lost}")),
                        attester=KeyAttester(STRANGER))
        sent = Passport(
            result(agent, ak=key.public.raw, issued=int(time.time()) - 400, life=350),
            KeyAttester(key).prove(peers.quoted(Role.SENDER, b"n" * 32, "uuid")), b"m" * 32)
        found = peers.doubt(agent, sent, Role.SENDER, b"n" * 32, "uuid")
        assert (found is None) == allowed, found
        late = Passport(
            result(agent, ak=key.public.raw, issued=int(time.time()) - 700, life=350),
            sent.proof, sent.nonce)
        assert peers.doubt(agent, late, Role.SENDER, b"n" * 32, "uuid") is not None
        bad = Passport(
            result(agent, Verdict.FAILED, ak=key.public.raw), sent.proof, sent.nonce)
        assert peers.doubt(agent, bad, Role.SENDER, b"n" * 32, "uuid") is not None


def test_a_host_without_a_result_has_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        peers.passport(attested_host(tmp_path), Role.SENDER, b"n" * 32, "uuid")
    assert caught.value.id == "attestation.no-result"
