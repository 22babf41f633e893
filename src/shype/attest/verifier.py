"""The verifier: challenges hosts, appraises their evidence, signs the results.

All it knows is in one directory (`shype.attest.verifier_state`); a second verifier with a copy of
it answers the same.
"""

from __future__ import annotations

import dataclasses
import hmac
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.attest import evidence, quote
from shype.attest.enroller import Enroller
from shype.attest.evidence import Evidence
from shype.attest.public import AttestationKey, attestation_key
from shype.attest.registry import Host
from shype.attest.verdict import Appraisal, Finding, appraise
from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic
from shype.host import attest_result
from shype.host.attest_result import Reason, Result, Verdict
from shype.policy.ed25519 import PrivateKey

#: Seconds in which a challenge must be answered: a slow TPM needs two.
CHALLENGE_LIFE = 120
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


class Verifier(Enroller):
    """A verifier with its state in the directory ``state``, where it also keeps
    ``results/NAME.result``.

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
        super().__init__(state, clock)
        self.key = key
        self._keyid = key.public.id
        self._life = life

    def challenge(self, attester: str, pcrs: Sequence[int] | None = None) -> Challenge:
        """A challenge for the host with the key ``attester``; nothing is kept of it.

        ``pcrs``: None are those that its reference values are about.  A revoked host gets one too:
        what it answers is refused with a signed result, which replaces the good one that it has.
        Raises BadInput: ``host.unknown``, ``reference.*``.
        """
        host = self.registry.find(attester)
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
                if host.verdict != result.verdict.value:
                    self._record("verdict", f"host:{host.name}", deferrable=True,
                                 verdict=result.verdict.value, before=host.verdict,
                                 reasons=[reason.id for reason in result.reasons])
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
        wrong = self._not_genuine(self.registry.find(found.attester), found)
        if wrong is not None:
            raise BadInput(
                "evidence.not-genuine", f"{wrong.message} [{wrong.id}]",
                "give the host a new challenge: shype attest challenge",
            )
        return found

    def take(self, data: bytes) -> tuple[Host, Evidence] | Reason:
        """As `observe`, but each challenge counts once: whose evidence it is, and the evidence.

        Or why it is not genuine. Raises BadInput: ``evidence.corrupt``, ``host.unknown``.
        """
        with self._locked():
            found = evidence.loads(data)
            host = self.registry.find(found.attester)
            wrong = self._not_genuine(host, found)
            if wrong is not None:
                return wrong
            answered = (*_alive(host, int(self._clock())), found.nonce.hex())
            self.registry.put(dataclasses.replace(host, nonces=answered), durable=False)
        return host, found

    def _not_genuine(self, host: Host, found: Evidence) -> Reason | None:
        wrong = self._not_asked(host, found.attester, found.nonce, int(self._clock()))
        if wrong is not None:
            return wrong
        if host.ak is None:
            return Reason("host.unknown", f"the host {host.name} is not enrolled yet")
        try:
            return quote.problem(
                found.quote, quote.parse(found.quote.attest), ak=attestation_key(host.ak),
                nonce=found.nonce, pcrs=found.pcrs)
        except BadInput as error:
            return Reason(error.id, error.message)

    def last(self, name: str) -> Result | None:
        """The last result on the host ``name`` that came of genuine evidence, None if there is
        none. Raises as `shype.host.attest_result.loads`."""
        try:
            data = read_regular(
                self._state / "results" / f"{name}.result", attest_result.MAX_RESULT)
        except FileNotFoundError:
            return None
        return attest_result.loads(data, {self._keyid: self.key.public})

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
        alive = _alive(host, now)
        versions = dict(host.versions)
        policy = appraisal.policy
        had = versions.get(policy.name) if policy is not None else None
        if policy is not None and appraisal.accepted and _newer(policy.version, had):
            versions[policy.name] = policy.version
        changed = dataclasses.replace(
            host, seen=appraisal.seen, versions=versions, nonces=(*alive, nonce.hex()),
            verdict=appraisal.verdict.value)
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


def _alive(host: Host, now: int) -> list[str]:
    """The challenges that the host has answered and could answer again."""
    return [each for each in host.nonces if int(each[:16], 16) + CHALLENGE_LIFE > now]


def _newer(version: str, had: str | None) -> bool:
    numbers = [tuple(int(part) for part in text.split(".")) for text in (version, had or "0.0")]
    return numbers[0] >= numbers[1]
