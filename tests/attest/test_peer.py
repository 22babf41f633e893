"""Two hosts that prove to each other whom their results are about, each with its own TPM."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import cast

from shype.attest.peer import TpmAttester
from shype.attest.tpm import Tpm
from shype.host.attest_result import Verdict
from tests.attest.logs import LAUNCH
from tests.attest.paper_tpm import PaperTpm
from tests.attest.software_tpm import SoftwareTpm
from tests.attest.world import Machine, World, paper_machine

CHALLENGE = bytes(range(32))


class _Open:
    """A TPM on paper, opened."""

    def __init__(self, tpm: PaperTpm) -> None:
        self._tpm = tpm

    def __enter__(self) -> Tpm:
        return cast(Tpm, self._tpm)

    def __exit__(self, *error: object) -> None:
        pass


def proof_of(machine: Machine) -> TpmAttester:
    paper = machine.tpm
    assert isinstance(paper, PaperTpm)
    return TpmAttester(machine.log.parent, lambda: _Open(paper))


def test_a_real_tpm_proves_it(own_tpm: SoftwareTpm, tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    with own_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        host.enrol()
        host.boot()
        result = host.attest()
    proof = TpmAttester(host.log.parent, own_tpm.open)
    shown = proof.prove(CHALLENGE)
    assert result.verdict is Verdict.TRUSTED
    assert proof.doubt(result, shown, CHALLENGE) is None
    own_tpm.reboot()
    late = proof.doubt(result, proof.prove(CHALLENGE), CHALLENGE)
    assert late is not None
    assert late.id == "peer.other-boot"


def test_what_is_copied_proves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    one, two = paper_machine(world, "xen1"), paper_machine(world, "xen2")
    result = one.attest()
    proof = proof_of(one)
    shown = proof.prove(CHALLENGE)
    assert proof.doubt(result, shown, CHALLENGE) is None
    one.measure(LAUNCH)
    assert proof.doubt(result, proof.prove(CHALLENGE), CHALLENGE) is None
    cases = [
        (result, shown, bytes(32), "quote.nonce"),
        (two.attest(), shown, CHALLENGE, "quote.signature"),
        (result, proof_of(two).prove(CHALLENGE), CHALLENGE, "quote.signature"),
        (replace(result, ak=b"no key"), shown, CHALLENGE, "tpm-key.ak"),
        (result, b"", CHALLENGE, "evidence.corrupt"),
        (result, b"[]", CHALLENGE, "evidence.corrupt"),
        (result, b"\xff", CHALLENGE, "evidence.corrupt"),
    ]
    for about, said, challenge, id in cases:
        why = proof.doubt(about, said, challenge)
        assert why is not None
        assert why.id == id


def test_evidence_for_a_verifier_is_no_proof_and_a_proof_no_evidence(tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    result, proof = host.attest(), proof_of(host)
    nonce = world.verifier.challenge(host.attester.id).nonce
    for pcrs in ((0, 4), ()):
        why = proof.doubt(result, host.attester.quote(nonce, pcrs), nonce)
        assert why is not None
        assert why.id == "peer.proof"
    only = host.attester.quote(nonce, ())  # what a proof is over
    assert world.verifier.appraise(only)[0].verdict is Verdict.FAILED


def test_a_changed_proof_is_none(tmp_path: Path) -> None:
    host = paper_machine(World(tmp_path / "verifier"))
    result, proof, rng = host.attest(), proof_of(host), random.Random(3)
    shown = proof.prove(CHALLENGE)
    for _ in range(800):
        at = rng.randrange(len(shown))
        changed = shown[:at] + bytes([shown[at] ^ 1 << rng.randrange(8)]) + shown[at + 1:]
        assert proof.doubt(result, changed, CHALLENGE) is not None
