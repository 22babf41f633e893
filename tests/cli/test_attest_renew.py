"""A host from its enrolment to an attested VM, by commands: TPM in software, model hypervisor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.attest import agent_code, boot_reference
from shype.attest.boot import Kind as Way
from shype.attest.boot_reference import Boot, BootReference
from shype.attest.tpm import TCTI_VARIABLE, Tpm
from shype.cli import attest, host, lifecycle
from shype.cli.agent import event_log_of
from shype.host.agent import Agent
from shype.policy.manifest import load_bundle
from tests.attest.logs import chain
from tests.attest.software_tpm import SoftwareTpm
from tests.attest.world import BOOTED, FIRMWARE
from tests.cli.on_model import options, run, signed_host
from tests.cli.test_attest import serving
from tests.host.builders import BANKS, config
from tests.signing import AUTHOR

Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(
    tmp_path: Path, own_tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Say:
    """Type a command; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TCTI_VARIABLE, own_tpm.name)
    (tmp_path / "author.key").write_bytes(AUTHOR.pem())
    (tmp_path / "author.key").chmod(0o600)
    (tmp_path / "author.pub").write_bytes(AUTHOR.public.pem())

    def typed(*words: object) -> tuple[int, str]:
        code = run([attest.add, host.add, lifecycle.add], words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return typed


@pytest.fixture
def agent(tmp_path: Path, say: Say) -> Agent:
    """A host whose policy wants the verifier's word for bank-a-db; booted as it should be."""
    assert say("attest", "init", "--signer", "author.pub", "--state", "verifier")[0] == 0
    line = (tmp_path / "verifier/verifier.pub").read_text().splitlines()[1]
    made = signed_host(tmp_path, BANKS.replace(
        "wall: [bank-a]}", "wall: [bank-a], attested: true}", 1)
        + f"attestation: {{verifiers: {{ops: {line}}}, fresh: 5 minutes}}\n")
    with Tpm() as chip:
        for measured in (FIRMWARE, BOOTED):
            for pcr, digests in measured.items():
                for digest in digests:
                    chip.pcr_extend(pcr, digest)
    return made


def _publish(say: Say, place: Path, agent: Agent) -> None:
    """The author's reference values, from the bundle, the boot and this very agent."""
    host_state = ("--state", agent.state / "attest", "--log", event_log_of(agent.state))
    manifest = load_bundle(place / "bundle").manifest
    boot = Boot(Way.GOOD, None, {pcr: chain(digests).hex() for pcr, digests in BOOTED.items()})
    (place / "banks.boots").write_bytes(boot_reference.dumps([BootReference(
        "banks", "1.0", manifest.digest, manifest.files["policy.bin"], (boot,), ())]))
    assert say("attest", "challenge", "xen1", "--observe", "-o", "c.json", "--state",
               "verifier")[0] == 0
    assert say("attest", "quote", "--challenge", "c.json", "-o", "e.json", *host_state)[0] == 0
    assert say("attest", "observe", "e.json", "-o", "firmware", "--state", "verifier")[0] == 0
    code, text = say("attest", "sign", "xen-hosts", "--bundle", "policy.shype", "--keys", "keys",
                     "--boot", "banks.boots", "--firmware", "firmware", "--agent",
                     agent_code.RUNNING, "--key", "author.key")
    assert code == 0, text
    assert say("attest", "publish", "xen-hosts.ref", "--state", "verifier")[0] == 0


def test_a_vm_starts_once_the_verifier_trusts_its_host_and_not_when_it_does_no_more(
    tmp_path: Path, say: Say, agent: Agent
) -> None:
    on = options(tmp_path, agent)
    start = ("run", config(tmp_path, "a-db"), *on)
    code, text = say(*start)
    assert (code, "[attested.none]" in text) == (1, True), text
    code, text = say("attest", "renew", *on)
    assert (code, "[attest.no-verifier]" in text) == (2, True), text
    id = json.loads(say("attest", "ek", "--json")[1])["id"]
    assert say("attest", "admit", "xen1", "--reference", "xen-hosts", "--ek", id, "--state",
               "verifier")[0] == 0
    with serving(tmp_path) as url:
        code, text = say("attest", "enrol", "xen1", "--verifier", url, "--state",
                         agent.state / "attest")
        assert code == 0, text
        assert say("status", *on)[0] != 3  # the agent measures itself, the policy and the mode
        _publish(say, tmp_path, agent)
        code, text = say("attest", "renew", *on)
        assert (code, "trusted" in text) == (0, True), text
        code, text = say(*start)
        assert code == 0, text
        code, text = say("status", *on)
        assert "trusted, for 2" in text
        code, text = say("attest", "renew", *on)
        assert code == 0, text  # a VM that started is nothing bad
        with Tpm() as chip:
            chip.pcr_extend(9, bytes(32))
        code, text = say("attest", "renew", *on)
        assert (code, "boot.unknown" in text) == (1, True), text
    assert say("pause", "a-db", *on)[0] == 0
    code, text = say("unpause", "a-db", *on)
    assert (code, "[attested.untrusted]" in text) == (1, True), text
    code, text = say("status", *on)
    assert "NOT trusted" in text
    code, text = say("attest", "renew", *on)
    assert (code, "[verifier.unreachable]" in text) == (3, True), text


def test_two_hosts_prove_themselves_to_each_other_with_their_tpms(
    tmp_path: Path, say: Say, agent: Agent, own_tpm: SoftwareTpm, shared_tpm: SoftwareTpm
) -> None:
    from shype.attest.attester import Attester
    from shype.attest.peer import TpmAttester
    from shype.host.attest_result import AttestedPolicy, Result, Verdict
    from shype.policy.ed25519 import KeyId

    made = []
    for name, tpm in (("one", own_tpm), ("two", shared_tpm)):
        with tpm.open() as chip:
            attester = Attester(chip, tmp_path / name)
            attester.request(name)
            attester.keep()
            clock, key = chip.clock(), attester.key().public
        policy = AttestedPolicy("banks", "1.0", "0" * 64)
        made.append((TpmAttester(tmp_path / name, tpm.open), Result(
            name, key, Verdict.TRUSTED, (), policy, clock.reset_count, clock.restart_count,
            "00" * 20, 1, 2, KeyId("0" * 64))))
    (one, first), (two, second) = made
    challenge = bytes(range(32))
    proof = two.prove(challenge)
    assert one.doubt(second, proof, challenge) is None
    for result, shown, asked, id in (
        (first, proof, challenge, "quote.signature"),
        (second, proof, bytes(32), "quote.nonce"),
        (second, b"{}", challenge, "evidence.corrupt"),
        (second, proof[:-5], challenge, "evidence.corrupt"),
    ):
        found = one.doubt(result, shown, asked)
        assert found is not None
        assert found.id == id
    own_tpm.reboot()
    found = two.doubt(first, one.prove(challenge), challenge)
    assert found is not None
    assert found.id == "peer.other-boot"
