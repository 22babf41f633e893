"""The hosts of a verifier come and go: admitted, enrolled, given new keys, revoked, forgotten."""

from __future__ import annotations

import dataclasses
import hmac
import os
import struct

from shype.attest import enrolment
from shype.attest.credential import make_credential
from shype.attest.public import attestation_key, endorsement_key
from shype.attest.registry import MAX_WHY, Host
from shype.attest.verifier_state import VerifierState
from shype.base.errors import BadInput
from shype.host import attest_result
from shype.host.attest_result import attester_id

#: Seconds in which an enrolment must be completed: files may travel by hand.
ENROLMENT_LIFE = 86_400


class Enroller(VerifierState):
    """Who says which hosts there are."""

    def enrol(self, data: bytes) -> bytes:
        """The challenge for the enrolment request ``data``, of a host that is admitted.

        Raises BadInput: ``enrolment.*``, ``host.*``, ``tpm-key.*``.
        """
        request = enrolment.loads(data, enrolment.Request)
        self._may_enrol(request.host, request.ek, request.ak)
        token = struct.pack(">Q", int(self._clock())) + os.urandom(8)
        proof = self._proof(request, token)
        credential = make_credential(
            endorsement_key(request.ek), attestation_key(request.ak), proof)
        return enrolment.dumps(enrolment.Challenge(
            request.host, credential.blob, credential.secret, token))

    def complete(self, data: bytes) -> Host:
        """Enrol the host whose TPM has read the challenge.

        Raises as `enrol`, and BadInput: ``enrolment.proof``, ``enrolment.expired``.
        """
        answer = enrolment.loads(data, enrolment.Answer)
        with self._locked():
            host = self._may_enrol(answer.host, answer.ek, answer.ak)
            if not hmac.compare_digest(answer.proof, self._proof(answer, answer.token)):
                raise BadInput(
                    "enrolment.proof", f"{answer.host} has not shown that its key is in its TPM",
                    "begin again: shype attest enrol",
                )
            (began,) = struct.unpack_from(">Q", answer.token)
            now = int(self._clock())
            if not began - attest_result.SKEW <= now < began + ENROLMENT_LIFE:
                raise BadInput("enrolment.expired", "the enrolment has taken longer than a day",
                               "begin again: shype attest enrol")
            former = host.former
            if host.ak is not None and host.ak != answer.ak:
                former = (*former, attester_id(host.ak))
            host = dataclasses.replace(host, ek=answer.ek, ak=answer.ak, former=former)
            self._record("enrol", f"host:{host.name}", attester=attester_id(answer.ak))
            self.registry.put(host)
        return host

    def admit(self, name: str, reference: str | None, ek_id: str) -> Host:
        """Admit a host by its TPM's identity; a VM, if ``reference`` is None.

        Raises BadInput: ``registry.*``.
        """
        with self._locked():
            self.registry.require_new(name, reference, ek_id)
            self._record("admit", f"host:{name}", reference=reference, ek=ek_id)
            return self.registry.admit(name, reference, ek_id)

    def revoke(self, name: str, why: str) -> Host:
        """Believe the host no longer, whatever it shows. Raises BadInput: ``host.unknown``,
        ``host.why``."""
        if not 0 < len(why) <= MAX_WHY or not why.isprintable():
            raise BadInput("host.why", "say why, in at most 200 characters",
                           "shype attest revoke NAME --why TEXT")
        with self._locked():
            host = dataclasses.replace(self.registry.get(name), revoked=why)
            self._record("revoke", f"host:{name}", deferrable=True, why=why)
            self.registry.put(host)
        return host

    def forget(self, name: str) -> None:
        """Remove a host and all that is known of it. Raises BadInput (``host.unknown``)."""
        with self._locked():
            self.registry.get(name)
            self._record("forget", f"host:{name}")
            self.registry.forget(name)
            (self._state / "results" / f"{name}.result").unlink(missing_ok=True)

    def _may_enrol(self, name: str, ek: bytes, ak: bytes) -> Host:
        host = self.registry.get(name)
        require_believed(host)
        key = attestation_key(ak)
        if endorsement_key(ek).id != host.ek_id:
            raise BadInput(
                "enrolment.other-tpm", f"{name} was admitted with another TPM than this one",
                "compare `shype attest ek` on the host with the column ek of `shype attest hosts`",
            )
        if attester_id(key.public) in host.former:
            raise BadInput("enrolment.former-key", f"{name} has given this key up before",
                           "make a new one: shype attest enrol --new-key")
        return host

    def _proof(self, of: enrolment.Request | enrolment.Answer, token: bytes) -> bytes:
        if len(token) != 16:
            raise BadInput("enrolment.corrupt", "this is no answer of an enrolment",
                           "begin again: shype attest enrol")
        return self._mac(b"enrol", token, of.host.encode(), of.ek, of.ak)


def require_believed(host: Host) -> None:
    """Raises BadInput (``host.revoked``)."""
    if host.revoked is not None:
        raise BadInput(
            "host.revoked", f"the host {host.name} is revoked: {host.revoked}",
            "shype attest forget NAME and admit it anew, once it is known to be clean",
        )
