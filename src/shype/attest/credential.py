"""Makes credentials: secrets that only one TPM with one key can read (TPM2_MakeCredential).

What a TPM would compute, without one, as a verifier has none: TPM 2.0 Library, part 1, 24
(credential protection), 11.4.10 (KDFa, KDFe), annexes B.10.4 and C.6.1 (secret exchange with RSA
and ECC). The other half is `shype.attest.tpm.Tpm.activate`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from shype.attest.public import AttestationKey, EndorsementKey

#: Largest secret, bytes: a digest of the EK's algorithm.
MAX_SECRET = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """``blob``: content of TPM2B_ID_OBJECT; ``secret``: of TPM2B_ENCRYPTED_SECRET."""

    blob: bytes
    secret: bytes


def make_credential(ek: EndorsementKey, ak: AttestationKey, secret: bytes) -> Credential:
    """``secret`` (at most 32 bytes) for the TPM that has ``ek`` and ``ak``, and for nobody else."""
    if not 0 < len(secret) <= MAX_SECRET:
        raise ValueError("no secret, or more than a digest")
    seed, encrypted_seed = _seed(ek)
    sealed = _aes_cfb(_kdfa(seed, b"STORAGE", ak.name, 128), _sized(secret))
    integrity = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), sealed + ak.name, "sha256")
    return Credential(_sized(integrity) + sealed, encrypted_seed)


def _seed(ek: EndorsementKey) -> tuple[bytes, bytes]:
    """A seed, and the seed encrypted to the endorsement key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if isinstance(ek.key, rsa.RSAPublicKey):
        seed = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        return seed, ek.key.encrypt(seed, oaep)
    mine = ec.generate_private_key(ec.SECP256R1())
    point, theirs = mine.public_key().public_numbers(), ek.key.public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
    shared = mine.exchange(ec.ECDH(), ek.key)
    # KDFe: one round is a SHA-256
    seed = hashlib.sha256(
        struct.pack(">I", 1) + shared + b"IDENTITY\0" + x + theirs.x.to_bytes(32, "big")).digest()
    return seed, _sized(x) + _sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """SP 800-108 in counter mode with HMAC-SHA-256; at most one round is needed here."""
    text = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.digest(key, text, "sha256")[:bits // 8]


def _aes_cfb(key: bytes, data: bytes) -> bytes:
    """AES in CFB mode from a zero vector, by blocks: `cryptography` is giving up the mode."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # one block at a time
    last, out = bytes(16), b""
    for at in range(0, len(data), 16):
        part = data[at:at + 16]
        last = bytes(a ^ b for a, b in zip(part, block.update(last), strict=False))
        out += last
    return out


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data
