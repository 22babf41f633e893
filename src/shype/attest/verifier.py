"""The verifier: challenges hosts, appraises their evidence, signs the results, and enrols hosts.

All it knows is in one directory (`Verifier`); a second verifier with a copy of it answers the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hmac
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.attest import enrolment, evidence, quote
from shype.attest.credential import make_credential
from shype.attest.evidence import Evidence
from shype.attest.public import AttestationKey, attestation_key, endorsement_key
from shype.attest.reference import MAX_REFERENCE, References, loads
from shype.attest.registry import MAX_WHY, Host, Registry
from shype.attest.verdict import Appraisal, Finding, appraise
from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic
from shype.host import attest_result, trust
from shype.host.attest_result import Reason, Result, Verdict, attester_id
from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey

#: Seconds in which a challenge must be answered: a slow TPM needs two.
CHALLENGE_LIFE = 120
#: Seconds in which an enrolment must be completed: files may travel by hand.
ENROLMENT_LIFE = 86_400
#: Seconds that a result holds, unless the verifier is told otherwise.
RESULT_LIFE = 600
_MAX_REASONS = 32
_MAX_TEXT = 400


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a host must answer: ``nonce``, over the registers ``pcrs``, before ``expires``."""

    nonce: bytes
    pcrs: tuple[int, ...]
    expires: int


class Verifier:
    """A verifier with its state in the directory ``state``: ``hosts``, ``results``,
    ``references/NAME.ref``, ``signers/*.pub`` (whose reference values count), ``secret``.

    ``key`` signs results, which hold ``life`` seconds. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self, state: Path, key: PrivateKey, *, life: int = RESULT_LIFE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < life <= attest_result.MAX_LIFE:
            raise BadInput(
                "verifier.life", f"results cannot hold {life} s",
                f"choose from 1 to {attest_result.MAX_LIFE} s; 600 is usual",
            )
        self.registry = Registry(state)
        self.key = key
        self._keyid = key.public.id
        self._state, self._life, self._clock = state, life, clock
        self._thread = threading.RLock()
        self._cache: dict[str, tuple[bytes, Mapping[KeyId, PublicKey], References]] = {}
        self._secret = self._own_secret()

    # Evidence

    def challenge(self, attester: str, pcrs: Sequence[int] | None = None) -> Challenge:
        """A challenge for the host with the key ``attester``; nothing is kept of it.

        ``pcrs``: None are those that its reference values are about.
        Raises BadInput: ``host.unknown``, ``host.revoked``, ``reference.*``.
        """
        host = self.registry.find(attester)
        _require_believed(host)
        pcrs = self.references(host).pcrs if pcrs is None else tuple(pcrs)
        now = int(self._clock())
        head = struct.pack(">Q", now) + os.urandom(8)
        return Challenge(head + self._mac(b"quote", head, attester.encode())[:16], pcrs,
                         now + CHALLENGE_LIFE)

    def appraise(self, data: bytes) -> tuple[Result, bytes, Appraisal]:
        """The result on the evidence ``data``, its signed form, and all that led to it.

        Only genuine evidence changes what is known of the host. Raises BadInput:
        ``evidence.corrupt`` (of whom it is cannot be said), ``host.unknown``, ``reference.*``
        (there are none to compare with); Unavailable.
        """
        found = evidence.loads(data)
        with self._locked():
            host = self.registry.find(found.attester)
            now = int(self._clock())
            wrong = self._not_asked(host, found.attester, found.nonce, now)
            if host.ak is None:
                raise BadInput("host.unknown", f"the host {host.name} is not enrolled yet",
                               "enrol it: shype attest enrol")
            key = attestation_key(host.ak)
            references = self.references(host)
            if wrong is not None:
                appraisal = Appraisal((Finding(Verdict.FAILED, wrong),))
            else:
                appraisal = appraise(
                    data, ak=key, nonce=found.nonce, references=references, now=now,
                    seen=host.seen, versions=dict(host.versions))
            result = self._result(host, key, found.nonce, appraisal, now)
            sealed = attest_result.dumps(result, self.key)
            if appraisal.seen is not None:
                self._remember(host, found.nonce, appraisal, now)
                write_atomic(self._state / "results" / f"{host.name}.result", sealed, 0o644,
                             durable=False)
        return result, sealed, appraisal

    def observe(self, data: bytes) -> Evidence:
        """The evidence ``data`` if it is genuine: what an enrolled host really showed just now.

        Whether that is good nobody says here. Raises BadInput: ``evidence.corrupt``,
        ``host.unknown``, ``evidence.not-genuine``.
        """
        found = evidence.loads(data)
        host = self.registry.find(found.attester)
        wrong = self._not_asked(host, found.attester, found.nonce, int(self._clock()))
        if wrong is None and host.ak is not None:
            wrong = quote.problem(
                found.quote, quote.parse(found.quote.attest), ak=attestation_key(host.ak),
                nonce=found.nonce, pcrs=found.pcrs)
        if wrong is not None:
            raise BadInput(
                "evidence.not-genuine", f"{wrong.message} [{wrong.id}]",
                "give the host a new challenge: shype attest challenge",
            )
        return found

    def last(self, name: str) -> Result | None:
        """The last result on the host ``name`` that came of genuine evidence, None if there is
        none. Raises as `shype.host.attest_result.loads`."""
        try:
            data = read_regular(
                self._state / "results" / f"{name}.result", attest_result.MAX_RESULT)
        except FileNotFoundError:
            return None
        return attest_result.loads(data, {self._keyid: self.key.public})

    def references(self, host: Host) -> References:
        """The host's reference values. Raises BadInput: ``reference.*``, ``key.*``."""
        path = self._state / "references" / f"{host.reference}.ref"
        try:
            data = read_regular(path, MAX_REFERENCE)
        except OSError as error:
            raise BadInput(
                "reference.missing", f"the host {host.name} is to be compared with the reference "
                f"values {host.reference!r}, and there is no {path}: {error.strerror}",
                "put the signed document there, named as it names itself",
            ) from error
        signers = self.signers()
        known = self._cache.get(host.reference)
        if known is None or known[:2] != (data, signers):
            known = data, signers, loads(data, host.reference, signers)
            self._cache[host.reference] = known
        return known[2]

    def publish(self, data: bytes, name: str) -> References:
        """Use the signed reference values ``data`` from now on.

        Raises BadInput: ``reference.*``; ``reference.superseded`` for older ones than are there.
        """
        found = loads(data, name, self.signers())
        path = self._state / "references" / f"{name}.ref"
        with self._locked():
            if path.exists():
                before = loads(read_regular(path, MAX_REFERENCE), name, self.signers())
                if before.serial >= found.serial and before != found:
                    raise BadInput(
                        "reference.superseded", f"there are newer reference values {name!r} "
                        f"(serial {before.serial}, and not {found.serial})",
                        "sign the ones that you want again: that makes them the newest",
                    )
            write_atomic(path, data, 0o644)
        return found

    def signers(self) -> Mapping[KeyId, PublicKey]:
        """Whose reference values count. Raises BadInput ``key.*``."""
        return trust.trusted_keys(self._state / "signers")

    def _not_asked(self, host: Host, attester: str, nonce: bytes, now: int) -> Reason | None:
        """Why ``nonce`` is no challenge that this host may answer now."""
        if host.revoked is not None:
            return Reason("host.revoked", f"the host is revoked: {host.revoked}"[:_MAX_TEXT])
        if attester in host.former:
            return Reason("evidence.former-key",
                          "the evidence is signed by a key that the host has given up")
        head = nonce[:16]
        if len(nonce) != 32 or not hmac.compare_digest(
                nonce[16:], self._mac(b"quote", head, attester.encode())[:16]):
            return Reason("challenge.unknown", "this verifier has not given this challenge to the "
                          "host")
        (issued,) = struct.unpack_from(">Q", nonce)
        if not issued - attest_result.SKEW <= now < issued + CHALLENGE_LIFE:
            return Reason("challenge.expired", f"the challenge was to be answered in "
                          f"{CHALLENGE_LIFE} s")
        if nonce.hex() in host.nonces:
            return Reason("challenge.used", "the challenge was answered before: this is a replay")
        return None

    def _remember(self, host: Host, nonce: bytes, appraisal: Appraisal, now: int) -> None:
        alive = [each for each in host.nonces
                 if int(each[:16], 16) + CHALLENGE_LIFE > now]
        versions = dict(host.versions)
        policy = appraisal.policy
        had = versions.get(policy.name) if policy is not None else None
        if policy is not None and appraisal.accepted and _newer(policy.version, had):
            versions[policy.name] = policy.version
        changed = dataclasses.replace(
            host, seen=appraisal.seen, versions=versions, nonces=(*alive, nonce.hex()))
        # A new boot and a new policy are remembered whatever happens; the rest is soon renewed.
        before, after = host.seen, appraisal.seen
        durable = versions != host.versions or before is None or after is None or (
            before.reset_count != after.reset_count)
        self.registry.put(changed, durable=durable)

    def _result(
        self, host: Host, key: AttestationKey, nonce: bytes, appraisal: Appraisal, now: int
    ) -> Result:
        seen = appraisal.seen
        reasons = [
            Reason(r.id, "".join(c if c.isprintable() else "?" for c in r.message)[:_MAX_TEXT])
            for r in appraisal.reasons
        ]
        if len(reasons) > _MAX_REASONS:
            more = Reason("more", f"and {len(reasons) - _MAX_REASONS} other reasons")
            reasons = [*reasons[:_MAX_REASONS], more]
        return Result(
            host=host.name, ak=key.public, verdict=appraisal.verdict, reasons=tuple(reasons),
            policy=appraisal.policy, reset_count=seen.reset_count if seen else 0,
            restart_count=seen.restart_count if seen else 0, nonce=nonce.hex(), issued=now,
            expires=now + self._life, verifier=self._keyid)

    # Enrolment

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
            self.registry.put(host)
        return host

    def admit(self, name: str, reference: str, ek_id: str) -> Host:
        """Admit a host by its TPM's identity. Raises BadInput: ``registry.*``."""
        with self._locked():
            return self.registry.admit(name, reference, ek_id)

    def revoke(self, name: str, why: str) -> Host:
        """Believe the host no longer, whatever it shows. Raises BadInput: ``host.unknown``,
        ``host.why``."""
        if not 0 < len(why) <= MAX_WHY or not why.isprintable():
            raise BadInput("host.why", "say why, in at most 200 characters",
                           "shype attest revoke NAME --why TEXT")
        with self._locked():
            host = dataclasses.replace(self.registry.get(name), revoked=why)
            self.registry.put(host)
        return host

    def forget(self, name: str) -> None:
        """Remove a host and all that is known of it. Raises BadInput (``host.unknown``)."""
        with self._locked():
            self.registry.forget(name)
            (self._state / "results" / f"{name}.result").unlink(missing_ok=True)

    def _may_enrol(self, name: str, ek: bytes, ak: bytes) -> Host:
        host = self.registry.get(name)
        _require_believed(host)
        key = attestation_key(ak)
        if endorsement_key(ek).id != host.ek_id:
            raise BadInput(
                "enrolment.other-tpm", f"{name} was admitted with another TPM than this one",
                "compare `shype attest ek` on the host with `shype attest hosts`",
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

    # State

    def _mac(self, *parts: bytes) -> bytes:
        text = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        return hmac.digest(self._secret, text, "sha256")

    def _own_secret(self) -> bytes:
        path = self._state / "secret"
        with self._locked():
            if not path.exists():
                write_atomic(path, os.urandom(32), 0o600)
            return path.read_bytes()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, in this process and among all."""
        with self._thread:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)


def _require_believed(host: Host) -> None:
    if host.revoked is not None:
        raise BadInput(
            "host.revoked", f"the host {host.name} is revoked: {host.revoked}",
            "shype attest forget NAME and admit it anew, once it is known to be clean",
        )


def _newer(version: str, had: str | None) -> bool:
    numbers = [tuple(int(part) for part in text.split(".")) for text in (version, had or "0.0")]
    return numbers[0] >= numbers[1]
