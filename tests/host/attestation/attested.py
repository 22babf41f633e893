"""A host whose policy has attested labels, and a verifier that says what a test wants."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.host import attest_result
from shype.host.agent import Agent
from shype.host.attest_result import AttestedPolicy, Reason, Result, Verdict
from shype.host.attestation.standing import KEY, directory, make
from shype.policy.ed25519 import PrivateKey, PublicKey
from tests.host.builders import BANKS, host

#: The verifier's key, new for each run.
VERIFIER = PrivateKey.generate()
#: One that the policy does not name.
STRANGER = PrivateKey.generate()
#: The marshalled attestation keys of this host and of another (any bytes do here).
AK = b"\x00\x23" + b"this host" * 8
OTHER_AK = b"\x00\x23" + b"other host" * 8

_LINE = VERIFIER.public.pem().decode().splitlines()[1]
POLICY = BANKS.replace("wall: [bank-a]}", "wall: [bank-a], attested: true}", 1) + (
    f"attestation: {{verifiers: {{ops: {_LINE}}}, fresh: 5 minutes, lost: keep}}\n")


def attested_host(tmp_path: Path, text: str = POLICY, *, enrolled: bool = True) -> Agent:
    """`tests.host.builders.host`, enrolled with `AK`; ``bank-a-db`` is attested."""
    agent = host(tmp_path, text)
    make(agent.state)
    if enrolled:
        enrol(agent, AK)
    return agent


def enrol(agent: Agent, ak: bytes) -> None:
    """The host has this attestation key now."""
    (directory(agent.state) / KEY).write_text(json.dumps(
        {"public": base64.b64encode(ak).decode(), "private": ""}))


def result(
    agent: Agent, verdict: Verdict = Verdict.TRUSTED, *, ak: bytes = AK, issued: int | None = None,
    life: int = 600, bundle: str | None = None, key: PrivateKey = VERIFIER, nonce: str = "00" * 20,
    reasons: Sequence[Reason] = (), name: str = "host-a",
) -> bytes:
    """What the verifier says of the host of ``agent``, signed."""
    at = int(time.time()) if issued is None else issued
    why = tuple(reasons)
    if verdict is not Verdict.TRUSTED and not why:
        why = (Reason("log.unknown", "an event of the log is not known"),)
    policy = AttestedPolicy(agent.policy.name, agent.policy.version,
                            bundle or agent.manifest.digest)
    made = Result(name, ak, verdict, why, policy, 1, 0, nonce, at, at + life, key.public.id)
    return attest_result.dumps(made, key)


@dataclass(frozen=True)
class KeyAttester:
    """An attester with an Ed25519 key in place of a TPM: the host's "attestation key" is its 32
    bytes, and a quote the boot's count and a signature."""

    key: PrivateKey
    resets: int = 1

    def prove(self, challenge: bytes) -> bytes:
        """A signature of challenge and boot."""
        said = b"%d %b" % (self.resets, challenge)
        return b"%d " % self.resets + self.key.sign(said)

    def doubt(self, result: Result, proof: bytes, challenge: bytes) -> Reason | None:
        """Whether that is by the key, of the boot, of ``result``."""
        resets, _, signature = proof.partition(b" ")
        if resets != b"%d" % result.reset_count:
            return Reason("quote.other-boot", "it has been rebooted since")
        if not PublicKey(result.ak).verifies(resets + b" " + challenge, signature):
            return Reason("quote.signature", "its quote is not by its attestation key")
        return None
