"""Public keys of TPMs, from the structures in which a TPM gives them (TPMT_PUBLIC).

Only the kinds that shype makes are keys at all: the two standard endorsement keys and the
attestation key of `shype.attest.tpm`. Anything else, however like them, is refused: a key that
is not restricted would sign a forged quote. For the verifier; uses `cryptography` (from version
38 on).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shype.attest.tpm import AK_TEMPLATE, EkKind
from shype.base.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

#: Largest TPMT_PUBLIC of these kinds, bytes.
MAX_PUBLIC = 1024
_COORDINATE = 32


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """A TPM's identity. ``public``: TPMT_PUBLIC as bytes."""

    kind: EkKind
    public: bytes
    key: RSAPublicKey | EllipticCurvePublicKey

    @property
    def id(self) -> str:
        """SHA-256 of ``public``, 64 hex digits; `shype attest ek` shows it on the host."""
        return hashlib.sha256(self.public).hexdigest()


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """A key that signs nothing but what its TPM says. ``public``: TPMT_PUBLIC as bytes."""

    public: bytes
    key: EllipticCurvePublicKey

    @property
    def name(self) -> bytes:
        """The TPM Name: algorithm and digest of the public area (part 1, 16)."""
        return b"\x00\x0b" + hashlib.sha256(self.public).digest()


def endorsement_key(public: bytes) -> EndorsementKey:
    """The EK in ``public``. Raises BadInput (``tpm-key.ek``)."""
    kind = next((kind for kind in EkKind if public.startswith(_fixed(kind.template))), None)
    try:
        if kind is None:
            raise ValueError
        rest = public[len(_fixed(kind.template)):]
        key: RSAPublicKey | EllipticCurvePublicKey = (
            _rsa(rest) if kind is EkKind.RSA else _point(rest))
    except ValueError as error:
        raise BadInput(
            "tpm-key.ek", "the endorsement key is none of the standard ones (RSA 2048 or ECC "
            "P-256)", "enrol with what `shype attest enrol` wrote on the host",
        ) from error
    return EndorsementKey(kind, public, key)


def attestation_key(public: bytes) -> AttestationKey:
    """The AK in ``public``. Raises BadInput (``tpm-key.ak``)."""
    fixed = AK_TEMPLATE[:-4]
    try:
        if not public.startswith(fixed):
            raise ValueError
        return AttestationKey(public, _point(public[len(fixed):]))
    except ValueError as error:
        raise BadInput(
            "tpm-key.ak", "the attestation key is not of the kind that a TPM restricts to its own "
            "words", "enrol with what `shype attest enrol` wrote on the host",
        ) from error


def _fixed(template: bytes) -> bytes:
    """A template without the key itself: RSA's one buffer, or ECC's two."""
    return template[:-258] if template[:2] == b"\0\x01" else template[:-68]


def _point(data: bytes) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    x, rest = _buffer(data)
    y, rest = _buffer(rest)
    if rest or len(x) != _COORDINATE or len(y) != _COORDINATE:
        raise ValueError
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()).public_key()


def _rsa(data: bytes) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    modulus, rest = _buffer(data)
    if rest or len(modulus) != 256 or modulus[0] < 0x80:
        raise ValueError
    return rsa.RSAPublicNumbers(65537, int.from_bytes(modulus, "big")).public_key()


def _buffer(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 2:
        raise ValueError
    (size,) = struct.unpack_from(">H", data)
    if len(data) < 2 + size:
        raise ValueError
    return data[2:2 + size], data[2 + size:]
