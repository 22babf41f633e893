"""The attestation result: what a verifier says of a host, signed, and good for minutes.

In the words of RFC 9334 (RATS) a host is the attester, this is the verifier's answer to its
evidence, and whoever reads it (the host's own gates, a peer that shall receive a VM) is a
relying party: the "passport model" of section 5.1. The payload's members are named after the
claims of EAT (RFC 9711: ``ueid``, ``eat_nonce``, ``iat``, ``exp``) and of AR4SI
(draft-ietf-rats-ar4si: the four ``status`` words) where there is one. It travels in a DSSE
envelope (`shype.policy.envelope`) of its own type. Standard library only: this runs in dom0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy import envelope, grammar
from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey
from shype.policy.model import LONGEST_RESULT

#: What the payload is.
PAYLOAD_TYPE = "application/vnd.shype.attestation-result+json"
#: Largest result read, bytes.
MAX_RESULT = 64 * 1024
#: Seconds by which the clocks of a verifier and a relying party may differ.
SKEW = 60
#: Longest life of a result, seconds.
MAX_LIFE = LONGEST_RESULT

#: A host, by its attestation key: SHA-256 of the TPMT_PUBLIC, 64 hex digits. That is the key's
#: TPM Name (TPM 2.0 Library, part 1, 16) without the algorithm's two bytes.
AttesterId = NewType("AttesterId", str)

_FORMAT = 1
_HEX = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"(?:[0-9a-f]{2}){8,64}")
_REASON = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_KEYS = {
    "format", "host", "ueid", "ak", "verdict", "status", "reasons", "policy", "reset_count",
    "restart_count", "eat_nonce", "iat", "exp", "verifier",
}
_MAX_REASONS = 64
_MAX_TEXT = 400
_MAX_AK = 1024
_LAST_SECOND = 253_402_300_799  # the year 9999, the last that can be shown


class Verdict(StrEnum):
    """What a verifier makes of a host.

    ``trusted``: everything measured is what it should be. ``maintenance``: so it is, but
    something was seen that only an announced window of work excuses. ``unknown``: the verifier
    cannot tell (nothing is known to be wrong). ``failed``: the evidence is not genuine, or says
    that something is wrong. Only ``trusted`` opens what is for attested hosts.
    """

    TRUSTED = "trusted"
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"
    FAILED = "failed"

    @property
    def status(self) -> str:
        """AR4SI's word (draft-ietf-rats-ar4si, 2.3.1: trustworthiness tier)."""
        return {"trusted": "affirming", "maintenance": "warning", "unknown": "none",
                "failed": "contraindicated"}[self.value]


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that spoke for the verdict: a stable dotted id, and a sentence for people."""

    id: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.id}]"


@dataclass(frozen=True, slots=True)
class AttestedPolicy:
    """The policy that the host enforced when it quoted.

    ``name`` and ``version`` as the bundle gives them, ``bundle`` the manifest's digest.
    """

    name: str
    version: str
    bundle: str

    def to_json(self) -> dict[str, object]:
        """The shape in results, reference values and chains."""
        return {"name": self.name, "version": self.version, "bundle": self.bundle}


@dataclass(frozen=True, slots=True)
class Result:
    """An attestation result.

    ``host`` is the name under which it was enrolled, ``ak`` its attestation key (a TPMT_PUBLIC as
    the TPM marshals it), ``policy`` None if the evidence named none. ``reset_count`` and
    ``restart_count`` say which boot it was (TPMS_CLOCK_INFO). ``nonce``: the challenge that was
    answered, hex. ``issued`` and ``expires``: seconds since 1970; not current from ``expires`` on.
    """

    host: str
    ak: bytes
    verdict: Verdict
    reasons: tuple[Reason, ...]
    policy: AttestedPolicy | None
    reset_count: int
    restart_count: int
    nonce: str
    issued: int
    expires: int
    verifier: KeyId

    @property
    def attester(self) -> AttesterId:
        """The host's id: it follows from ``ak``, so no two hosts share it."""
        return attester_id(self.ak)

    def stale(self, now: float) -> Reason | None:
        """Why it does not hold at ``now`` (seconds since 1970), or None if it does."""
        if now < self.issued - SKEW:
            return Reason(
                "result.not-yet", "the attestation result is dated "
                f"{self.issued - int(now)} s from now: the clock here or the verifier's is wrong")
        if now >= self.expires:
            return Reason("result.expired",
                          f"the attestation result ended {int(now) - self.expires} s ago")
        return None

    def objection(self, now: float, *, bundle: str | None = None) -> Reason | None:
        """Why a relying party must not count this host as attested at ``now``; None if it may.

        ``bundle``: the digest of the policy that must be in force there (None: any).
        """
        late = self.stale(now)
        if late is not None:
            return late
        if self.verdict is not Verdict.TRUSTED:
            why = f": {self.reasons[0].message}" if self.reasons else ""
            return Reason("result.not-trusted", f"the verifier calls the host {self.verdict}{why}")
        if bundle is not None and (self.policy is None or self.policy.bundle != bundle):
            have = self.policy.bundle[:16] if self.policy else "none"
            return Reason("result.other-policy",
                          f"the attestation result is about the policy {have}, not {bundle[:16]}")
        return None

    def to_json(self) -> dict[str, object]:
        """The payload, without its format."""
        return {
            "host": self.host, "ueid": self.attester, "ak": base64.b64encode(self.ak).decode(),
            "verdict": self.verdict.value, "status": self.verdict.status,
            "reasons": [{"id": r.id, "message": r.message} for r in self.reasons],
            "policy": self.policy and self.policy.to_json(),
            "reset_count": self.reset_count, "restart_count": self.restart_count,
            "eat_nonce": self.nonce, "iat": self.issued, "exp": self.expires,
            "verifier": self.verifier,
        }


def attester_id(ak: bytes) -> AttesterId:
    """The id of the host whose attestation key is the marshalled TPMT_PUBLIC ``ak``."""
    return AttesterId(hashlib.sha256(ak).hexdigest())


def dumps(result: Result, key: PrivateKey) -> bytes:
    """The signed file of ``result``; the same result and key always give the same bytes.

    Raises BadInput (``result.corrupt``) if `loads` would not read it: whoever's key it is not.
    """
    payload = canonical.dumps({"format": _FORMAT, **result.to_json()})
    if _result(payload) != result or result.verifier != key.public.id:
        raise _corrupt("it says what no result may say")
    return envelope.dumps(envelope.sign(payload, (key,), PAYLOAD_TYPE), PAYLOAD_TYPE)


def loads(data: bytes, verifiers: Mapping[KeyId, PublicKey]) -> Result:
    """The result in ``data``, if one of ``verifiers`` has signed it. Whether it still holds is
    for `Result.objection` to say.

    Raises BadInput: ``result.corrupt``, ``result.unsigned`` (by no verifier that is trusted
    here), ``result.altered``; Unavailable (``tool.missing``).
    """
    if len(data) > MAX_RESULT:
        raise _corrupt(f"it is larger than {MAX_RESULT} bytes")
    try:
        found = envelope.loads(data, PAYLOAD_TYPE)
    except BadInput as error:
        raise _corrupt("it is no envelope of one") from error
    if len(found.signatures) != 1:
        raise _corrupt("it has not one signature")
    signature = found.signatures[0]
    if signature.keyid not in verifiers:
        raise BadInput(
            "result.unsigned",
            f"the attestation result is signed by {signature.keyid[:16]}, no verifier that is "
            "trusted here", "copy the verifier's NAME.pub to the directory of trusted verifiers",
        )
    if not found.signed_by(verifiers[signature.keyid], PAYLOAD_TYPE):
        raise BadInput(
            "result.altered",
            f"the attestation result is not what the verifier {signature.keyid[:16]} signed",
            "attest again; if that does not help, find out who changed it",
        )
    result = _result(found.payload)
    if result is None or result.verifier != signature.keyid:
        raise _corrupt("its payload is not one")
    return result


def _result(payload: bytes) -> Result | None:
    """What ``payload`` says, None if it is not exactly what `dumps` writes."""
    try:
        value = json.loads(payload.decode())
        if not isinstance(value, dict) or value.keys() != _KEYS:
            return None
        ak = binascii.a2b_base64(value["ak"], strict_mode=True)
        result = Result(
            value["host"], ak, Verdict(value["verdict"]), _reasons(value["reasons"]),
            _policy(value["policy"]), value["reset_count"], value["restart_count"],
            value["eat_nonce"], value["iat"], value["exp"], KeyId(value["verifier"]),
        )
        if not _sane(result):
            return None
        again = canonical.dumps({"format": _FORMAT, **result.to_json()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return result if again == payload else None


def _reasons(value: object) -> tuple[Reason, ...]:
    if not isinstance(value, list) or len(value) > _MAX_REASONS:
        raise ValueError
    reasons = tuple(Reason(item["id"], item["message"]) for item in value)
    if not all(_REASON.fullmatch(r.id) and 0 < len(r.message) <= _MAX_TEXT
               and r.message.isprintable() for r in reasons):
        raise ValueError
    return reasons


def _policy(value: object) -> AttestedPolicy | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError
    policy = AttestedPolicy(value["name"], value["version"], value["bundle"])
    if not (grammar.is_name(policy.name) and grammar.is_version(policy.version)
            and _HEX.fullmatch(policy.bundle)):
        raise ValueError
    return policy


def _sane(result: Result) -> bool:
    numbers = (result.reset_count, result.restart_count)
    times = (result.issued, result.expires)
    return bool(
        _HOST.fullmatch(result.host)
        and 0 < len(result.ak) <= _MAX_AK
        and all(type(number) is int and 0 <= number < 1 << 32 for number in numbers)
        and all(type(time) is int and 0 <= time <= _LAST_SECOND for time in times)
        and 0 < result.expires - result.issued <= MAX_LIFE
        and _NONCE.fullmatch(result.nonce)
        and _HEX.fullmatch(result.verifier)
        and (result.verdict is Verdict.TRUSTED or result.reasons)
    )


def _corrupt(problem: str) -> BadInput:
    return BadInput(
        "result.corrupt", f"the attestation result is damaged: {problem}",
        "attest again: `shype attest verify` makes a new one",
    )
