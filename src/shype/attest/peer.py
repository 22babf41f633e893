"""How this host proves itself to another host (`shype.host.attestation.peers`): by its TPM.

The proof is evidence without a log: what the host runs is in the result that it proves to own. It
is over the register of the events alone, so no proof is evidence, and no evidence a proof.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from shype.attest import evidence, host_events, public, quote
from shype.attest.attester import Attester
from shype.attest.evidence import Evidence
from shype.attest.tpm import Tpm
from shype.base.errors import BadInput
from shype.host.attest_result import Reason, Result


@dataclass(frozen=True, slots=True)
class TpmAttester:
    """A `shype.host.attestation.peers.Attester`; the key is in ``state``, ``tpm`` opens the TPM."""

    state: Path
    tpm: Callable[[], AbstractContextManager[Tpm]] = Tpm

    def prove(self, challenge: bytes) -> bytes:
        """A quote of ``challenge``. Raises Unavailable: ``attest.no-key``, ``tpm.*``."""
        with self.tpm() as tpm:
            attester = Attester(tpm, self.state)
            while True:
                values = tpm.pcr_read([host_events.PCR])
                made = tpm.quote(attester.key(), challenge, values)
                if tpm.pcr_read([host_events.PCR]) == values:  # nothing was measured meanwhile
                    break
            return evidence.dumps(Evidence(attester.id, challenge, made, values, b""))

    def doubt(self, result: Result, proof: bytes, challenge: bytes) -> Reason | None:
        """Why ``proof`` is no quote of ``challenge`` by the host of ``result``, in its boot."""
        try:
            found = evidence.loads(proof)
            said = quote.parse(found.quote.attest)
            wrong = quote.problem(
                found.quote, said, ak=public.attestation_key(result.ak), nonce=challenge,
                pcrs=found.pcrs)
        except BadInput as error:
            return Reason(error.id, error.message)
        if wrong is not None:
            return wrong
        if found.attester != result.attester or found.nonce != challenge:
            return Reason("peer.proof", "what it has shown contradicts itself")
        if found.pcrs.keys() != {host_events.PCR} or found.log:
            return Reason("peer.proof", "it has shown evidence that is for a verifier")
        if (said.clock.reset_count, said.clock.restart_count) != (
                result.reset_count, result.restart_count):
            return Reason("peer.other-boot", "it has been booted again since its attestation")
        return None
