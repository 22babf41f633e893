"""`shype attest`, as it is typed: a verifier, an author and a host with a TPM in software."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.attest import agent_code, boot_reference
from shype.attest.boot import Kind as Way
from shype.attest.boot_reference import Boot, BootReference
from shype.attest.measuring import TpmMeasurer
from shype.attest.service import Service
from shype.attest.tpm import TCTI_VARIABLE, Tpm
from shype.attest.verifier import Verifier
from shype.cli import attest
from shype.cli.keys import read_private
from shype.host.agent import Agent
from shype.host.attestation import standing
from shype.host.audit.reader import records
from shype.host.drivers.model import ModelHypervisor
from shype.policy.manifest import load_bundle
from tests.attest.logs import chain
from tests.attest.software_tpm import SoftwareTpm
from tests.attest.world import BOOTED, FIRMWARE
from tests.cli.on_model import run, signed_host
from tests.host.builders import BANKS
from tests.signing import AUTHOR

PACKAGE = agent_code.RUNNING
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def place(
    tmp_path: Path, own_tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """A directory with a verifier, the author's key, and a host on the model whose policy counts
    on that verifier; the TPM is in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TCTI_VARIABLE, own_tpm.name)
    (tmp_path / "author.key").write_bytes(AUTHOR.pem())
    (tmp_path / "author.key").chmod(0o600)
    (tmp_path / "author.pub").write_bytes(AUTHOR.public.pem())
    assert run([attest.add], [
        "attest", "init", "--signer", "author.pub", "--state", "verifier"]) == 0
    key = (tmp_path / "verifier" / "verifier.pub").read_text().splitlines()[1]
    text = BANKS.replace("[market]}\n", "[market], attested: true}\n")
    assert text != BANKS
    signed_host(tmp_path, f"{text}attestation: {{verifiers: {{ops: {key}}}}}\n")
    manifest = load_bundle(tmp_path / "bundle").manifest
    boot = Boot(Way.GOOD, None, {pcr: chain(digests).hex() for pcr, digests in BOOTED.items()})
    (tmp_path / "banks.boots").write_bytes(boot_reference.dumps([BootReference(
        "banks", "1.0", manifest.digest, manifest.files["policy.bin"], (boot,), ())]))
    capsys.readouterr()
    return tmp_path


@pytest.fixture
def say(place: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Type ``shype attest ...``; gives the exit code and what was printed."""

    def typed(*words: object) -> tuple[int, str]:
        if words[0] in ("init", "admit", "enrolment", "publish", "challenge", "observe", "verify",
                        "hosts", "revoke", "forget"):
            words = (*words, "--state", "verifier")
        if words[0] in ("enrol", "quote"):
            words = (*words, "--state", "state/attest")
        if words[0] == "quote":
            words = (*words, "--log", "state/attest/run/event-log")
        if words[0] in ("renew", "accept"):
            words = (*words, "--bundle", place / "policy.shype", "--keys", "keys", "--state",
                     place / "state", "--driver", "model", "--model-file", place / "model.json")
        code = run([attest.add], ["attest", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return typed


def booted(place: Path, tpm: SoftwareTpm, *modes: str) -> None:
    """The host boots as it should, and the agent measures what it finds."""
    manifest = load_bundle(place / "bundle").manifest
    with tpm.open() as chip:
        for measured in (FIRMWARE, BOOTED):
            for pcr, digests in measured.items():
                for digest in digests:
                    chip.pcr_extend(pcr, digest)
    for mode in ("enforcing", *modes):
        TpmMeasurer(place / "state" / "attest" / "run").observe(manifest, mode)


def enrolled(say: Say, place: Path) -> None:
    """By files, as without a network."""
    code, text = say("ek", "--json")
    id = json.loads(text)["id"]
    assert say("admit", "xen1", "--reference", "xen-hosts", "--ek", id)[0] == 0
    assert say("enrol", "xen1", "-o", "request.json")[0] == 0
    assert say("enrolment", "request.json", "-o", "challenge.json")[0] == 0
    assert say("enrol", "xen1", "--challenge", "challenge.json", "-o", "answer.json")[0] == 0
    code, text = say("enrolment", "answer.json")
    assert (code, text) == (0, "xen1 is enrolled\n")


def published(say: Say, place: Path, *more: object) -> None:
    assert say("challenge", "xen1", "--observe", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    assert say("observe", "e.json", "-o", "server.firmware")[0] == 0
    code, text = say("sign", "xen-hosts", "--bundle", "policy.shype", "--keys", "keys", "--boot",
                     "banks.boots", "--firmware", "server.firmware", "--agent", PACKAGE, "--key",
                     "author.key", *more)
    assert code == 0, text
    assert say("publish", "xen-hosts.ref")[0] == 0


def test_a_whole_session_by_files(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    enrolled(say, place)
    booted(place, own_tpm)
    published(say, place)
    code, text = say("hosts")
    assert (code, "no evidence yet" in text) == (1, True)
    assert say("challenge", "xen1", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    code, text = say("verify", "e.json", "-o", "result")
    assert code == 0, text
    assert "trusted" in text
    assert "banks 1.0" in text
    assert say("accept", "result")[0] == 0
    assert standing.objection(signed_agent(place)) is None
    code, text = say("hosts")
    assert code == 0, text
    assert "trusted" in text
    # A VM is nobody's to call trusted, and takes nothing from that all hosts are.
    assert say("admit", "desk", "--vm", "--ek", "ab" * 32)[0] == 0
    code, text = say("hosts")
    assert (code, "a VM: shype attest chain" in text) == (0, True)
    code, text = say("verify", "e.json")
    assert code == 1
    assert "[challenge.used]" in text
    assert say("revoke", "xen1", "--why", "stolen")[0] == 0
    code, text = say("hosts", "--json")
    assert code == 1
    assert {one["host"]: one["verdict"] for one in json.loads(text)["hosts"]} == {
        "desk": "none", "xen1": "failed"}
    # It may ask, and is told: what it holds now takes the good result's place.
    assert say("challenge", "xen1", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    code, text = say("verify", "e.json", "-o", "result")
    assert (code, "[host.revoked]" in text) == (1, True)
    assert say("accept", "result")[0] == 1
    assert standing.objection(signed_agent(place)) is not None
    assert say("forget", "xen1")[0] == 0
    assert say("hosts")[0] == 0
    assert "attestation.key" in [r.body["kind"] for r in records(place / "state" / "audit")]
    assert "verifier.revoke" in [r.body["kind"] for r in records(place / "verifier" / "audit")]


@contextlib.contextmanager
def serving(place: Path) -> Iterator[str]:
    """The verifier's service, on a port that is free."""
    state = place / "verifier"
    service = Service(Verifier(state, read_private(state / "verifier.key")), ("127.0.0.1", 0))
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield service.url
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


def test_a_host_asks_over_the_network(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    enrolled(say, place)
    booted(place, own_tpm)
    published(say, place)
    agent = signed_agent(place)
    assert standing.objection(agent) is not None
    with serving(place) as url:
        assert say("enrol", "xen1", "--verifier", url, "--new-key")[0] == 0
        code, text = say("renew", "--verifier", url)
        assert code == 0, text
        assert "trusted" in text
        assert standing.objection(agent) is None
        with Tpm() as chip:
            chip.pcr_extend(9, bytes(32))
        code, text = say("renew", "--verifier", url)
        assert code == 1
        assert "[boot.unknown]" in text
        assert standing.objection(agent) is not None
    code, text = say("renew", "--verifier", url)
    assert code == 3, "the verifier is gone"
    assert "[verifier.unreachable]" in text
    with serving(place) as url:
        own_tpm.stop()
        code, text = say("renew", "--verifier", url)
        assert code == 3
        assert "[tpm.absent]" in text
        own_tpm.start()


def signed_agent(place: Path) -> Agent:
    """The agent, as `renew` opens it."""
    bundle = load_bundle(place / "bundle")
    return Agent(bundle, ModelHypervisor(bundle, place / "model.json"), place / "state")


def test_a_window_of_maintenance_is_signed(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    enrolled(say, place)
    booted(place, own_tpm, "permissive", "enforcing")
    published(say, place, "--maintenance", "2020-01-01T00:00Z/2100-01-01T00:00Z")
    assert say("challenge", "xen1", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    code, text = say("verify", "e.json", "--json")
    assert (code, json.loads(text)["verdict"]) == (1, "maintenance")


@pytest.mark.parametrize(("words", "id"), [
    (("quote", "--challenge", "none", "-o", "x"), "attest.file"),
    (("serve", "--state", "."), "verifier.none"),
    (("quote", "--challenge", "author.pub", "-o", "x"), "challenge.corrupt"),
    (("enrol", "xen1"), "attest.way"),
    (("enrol", "xen1", "-o", "x", "--verifier", "http://127.0.0.1:1"), "attest.way"),
    (("enrol", "xen1", "--verifier", "file:///etc/passwd"), "verifier.url"),
    (("ek", "--tpm", "cmd:id"), "tpm.tcti"),
    (("init", "--signer", "author.key"), "key.invalid"),
    (("sign", "x", "--bundle", "policy.shype@tomorrow", "--keys", "keys", "--boot", "banks.boots",
      "--firmware", "f", "--agent", ".", "--key", "author.key"), "attest.window"),
    (("sign", "x", "--bundle", "policy.shype", "--keys", "keys", "--boot", "author.pub",
      "--firmware", "f", "--agent", ".", "--key", "author.key"), "reference.corrupt"),
    (("sign", "x", "--bundle", "policy.shype", "--keys", "keys", "--boot", "banks.boots",
      "--firmware", "banks.boots", "--agent", ".", "--key", "author.key"), "reference.no-firmware"),
])
def test_bad_input_has_a_name(say: Say, words: tuple[str, ...], id: str) -> None:
    code, text = say(*words)
    assert (code, f"[{id}]" in text) == (2, True), text


@pytest.mark.parametrize(("words", "id"), [
    (("serve", "--listen", "8443"), "service.listen"),
    (("serve", "--listen", "0.0.0.0:8443"), "service.plain"),
    (("serve", "--listen", "127.0.0.1:1", "--tls-cert", "author.pub"), "service.tls"),
    (("serve", "--life", "0"), "verifier.life"),
])
def test_the_service_says_what_it_cannot_do(
    say: Say, words: tuple[str, ...], id: str
) -> None:
    code, text = say(*words, "--state", "verifier")
    assert code in (2, 3)
    assert f"[{id}]" in text


def test_a_verifier_s_key_is_never_overwritten(place: Path, say: Say) -> None:
    before = (place / "verifier" / "verifier.key").read_bytes()
    code, text = say("init", "--signer", "author.pub")
    assert (code, "[verifier.exists]" in text) == (2, True)
    assert (place / "verifier" / "verifier.key").read_bytes() == before
    assert (place / "verifier" / "verifier.key").stat().st_mode & 0o77 == 0


def test_the_firmware_is_what_the_host_showed(
    place: Path, say: Say, own_tpm: SoftwareTpm
) -> None:
    enrolled(say, place)
    booted(place, own_tpm)
    assert say("challenge", "xen1", "--observe", "-o", "c.json")[0] == 0
    assert say("quote", "--challenge", "c.json", "-o", "e.json")[0] == 0
    assert say("observe", "e.json", "-o", "f")[0] == 0
    pcrs = json.loads((place / "f").read_text())["pcrs"]
    assert pcrs["0"] == chain(FIRMWARE[0]).hex()
    assert pcrs["2"] == "00" * 32
    data = (place / "e.json").read_text()
    forged = data.replace(chain(FIRMWARE[0]).hex(), hashlib.sha256(b"x").hexdigest())
    (place / "e.json").write_text(forged)
    code, text = say("observe", "e.json", "-o", "f")
    assert (code, "[evidence.not-genuine]" in text) == (2, True)
