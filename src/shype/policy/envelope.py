"""The envelope of a bundle: DSSE, the Dead Simple Signing Envelope.

https://github.com/secure-systems-lab/dsse, envelope.md and protocol.md (v1.0).  What is
signed is the payload's bytes together with their type, so the payload is not parsed before it
is known who signed it.  Of all envelopes that DSSE admits, only the one that `dumps` writes is
read: a bundle has one form, and no byte of it can be changed unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy.ed25519 import SIGNATURE_SIZE, KeyId, PrivateKey, PublicKey

#: What the payload is.
PAYLOAD_TYPE = "application/vnd.shype.bundle+json"
#: Largest bundle read, bytes.
MAX_BUNDLE = 64 * 1024 * 1024
#: More signatures than anybody needs.
MAX_SIGNATURES = 16

_START = b'{"payload":"'
#: Bytes after the payload: payloadType, and `MAX_SIGNATURES` of 180 bytes.
_MAX_REST = 4096
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the id of the key that is said to have made it."""

    keyid: KeyId
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and its signatures, by key id; nothing is checked yet."""

    payload: bytes
    signatures: tuple[Signature, ...]

    def signed_by(self, key: PublicKey, kind: str = PAYLOAD_TYPE) -> bool:
        """Whether ``key`` made one of the signatures. Raises Unavailable (``tool.missing``)."""
        return any(s.keyid == key.id and key.verifies(pae(self.payload, kind), s.sig)
                   for s in self.signatures)


def sign(payload: bytes, keys: Iterable[PrivateKey], kind: str = PAYLOAD_TYPE) -> Envelope:
    """``payload`` signed by every one of ``keys``, by each once.

    Raises Unavailable (``tool.missing``).
    """
    said = pae(payload, kind)
    signatures = {key.public.id: key.sign(said) for key in keys}
    return Envelope(payload, tuple(Signature(*item) for item in sorted(signatures.items())))


def pae(payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """What is signed: DSSE's pre-authentication encoding of type and payload."""
    said = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(said), said, len(payload), payload)


def dumps(envelope: Envelope, kind: str = PAYLOAD_TYPE) -> bytes:
    """The file: canonical JSON with the members payload, payloadType, signatures."""
    return canonical.dumps({
        "payload": base64.b64encode(envelope.payload).decode(),
        **_rest(envelope.signatures, kind),
    })


def loads(data: bytes, kind: str = PAYLOAD_TYPE) -> Envelope:
    """The inverse of `dumps`.

    Takes memory of about twice ``data``, whatever that is: the payload is cut out as bytes,
    and only the few bytes after it are read as JSON.

    Raises BadInput (``bundle.corrupt``).
    """
    if len(data) > MAX_BUNDLE:
        raise corrupt(f"it is larger than {MAX_BUNDLE} bytes")
    end = data.find(b'"', len(_START)) if data.startswith(_START) else -1
    rest = data[end + 1:] if end >= 0 else b""
    if not 0 < len(rest) <= _MAX_REST or not rest.startswith(b","):
        raise corrupt("it is no envelope that `shype build` wrote")
    signatures = _signatures(_parse(b"{" + rest[1:]), kind)
    if canonical.dumps(_rest(signatures, kind)) != b"{" + rest[1:]:
        raise corrupt("the envelope is not in canonical form")
    return Envelope(_bytes(data[len(_START):end], "payload"), signatures)


def corrupt(problem: str) -> BadInput:
    """The error for a bundle that is not what `shype build` wrote."""
    return BadInput(
        "bundle.corrupt", f"the compiled policy is damaged: {problem}",
        "build it again with `shype build`, and copy it again",
    )


def _rest(signatures: Sequence[Signature], kind: str) -> dict[str, object]:
    return {
        "payloadType": kind,
        "signatures": [
            {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()}
            for s in sorted(signatures, key=lambda s: s.keyid)
        ],
    }


def _parse(data: bytes) -> object:
    try:
        value: object = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise corrupt("the end of the envelope is not JSON") from error
    return value


def _signatures(value: object, kind: str) -> tuple[Signature, ...]:
    """The signatures; what else is odd about ``value`` shows when its canonical form differs."""
    if not isinstance(value, dict) or value.get("payloadType") != kind:
        raise corrupt(f"the payload is not of the type {kind}")
    items = value.get("signatures")
    if not isinstance(items, list) or len(items) > MAX_SIGNATURES:
        raise corrupt(f"there is no list of at most {MAX_SIGNATURES} signatures")
    found = []
    for item in items:
        keyid, text = (item.get("keyid"), item.get("sig")) if isinstance(item, dict) else ("", "")
        if not isinstance(keyid, str) or not isinstance(text, str) or not _ID.fullmatch(keyid):
            raise corrupt("a signature has no key id")
        sig = _bytes(text.encode(errors="replace"), "signature")
        if len(sig) != SIGNATURE_SIZE:
            raise corrupt("a signature is not one of Ed25519")
        found.append(Signature(KeyId(keyid), sig))
    if len({s.keyid for s in found}) != len(found):
        raise corrupt("two signatures are of one key")
    return tuple(found)


def _bytes(text: bytes, where: str) -> bytes:
    """Base64 in the one form that an encoder writes."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise corrupt(f"the {where} is not base64") from error
    if base64.b64encode(data) != text:
        raise corrupt(f"the {where} is not base64 in canonical form")
    return data
