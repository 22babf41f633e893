"""Ed25519 keys and signatures (RFC 8032), in the files that OpenSSL reads and writes.

Signatures are made and checked by `shype.policy.libcrypto`; `cryptography` (version 38, which
Debian 12 ships, is enough) does it where OpenSSL cannot, and reads private keys in forms that
`PrivateKey.pem` does not write (docs/adr/0007-signed-bundles.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import NewType

from shype.base.errors import BadInput, Unavailable
from shype.policy import libcrypto

#: SHA-256 of a public key's SubjectPublicKeyInfo, 64 hex digits:
#: ``openssl pkey -pubin -in NAME.pub -outform DER | sha256sum`` prints the same.
KeyId = NewType("KeyId", str)

#: Bytes of a signature.
SIGNATURE_SIZE = 64
#: Largest key file read, bytes.
MAX_KEY_FILE = 16 * 1024
#: DER up to the 32 bytes of the key itself (RFC 8410 §4: SubjectPublicKeyInfo, id-Ed25519).
_SPKI = bytes.fromhex("302a300506032b6570032100")
_KEY_SIZE = 32
#: The same of a private key (RFC 8410 §7: OneAsymmetricKey of version 0).
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_PRIVATE_PEM = re.compile(
    rb"-----BEGIN PRIVATE KEY-----\n([A-Za-z0-9+/=]{64})\n-----END PRIVATE KEY-----\n"
)
_PEM = re.compile(
    rb"\s*-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----\s*"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, by its 32 bytes."""

    raw: bytes

    @property
    def id(self) -> KeyId:
        """The name of the key in signatures. It follows from the key, so no two share it."""
        return KeyId(hashlib.sha256(_SPKI + self.raw).hexdigest())

    def pem(self) -> bytes:
        """The content of a ``.pub`` file."""
        body = base64.b64encode(_SPKI + self.raw)
        return b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n"

    @staticmethod
    def from_pem(data: bytes, name: str) -> PublicKey:
        """The inverse of `pem`; ``name`` is the file's, for the message.

        Raises BadInput (``key.invalid``).
        """
        match = _PEM.fullmatch(data) if len(data) <= MAX_KEY_FILE else None
        try:
            body = b"".join(match[1].split()) if match else b""
            der = binascii.a2b_base64(body, strict_mode=True)
        except binascii.Error:
            der = b""
        if len(der) != len(_SPKI) + _KEY_SIZE or not der.startswith(_SPKI):
            private = b"PRIVATE KEY" in data[:MAX_KEY_FILE]
            raise invalid(name, "a private key" if private else "no Ed25519 public key in PEM")
        return PublicKey(der[len(_SPKI):])

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``.

        Raises Unavailable (``tool.missing``) with neither libcrypto nor `cryptography`.
        """
        answer = libcrypto.verifies(self.raw, message, signature)
        if answer is not None:
            return answer
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise _no_library() from error
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key, by its 32 bytes, which never appear in a text."""

    raw: bytes = field(repr=False)

    @staticmethod
    def generate() -> PrivateKey:
        """A new key: any 32 bytes are one (RFC 8032 §5.1.5)."""
        return PrivateKey(os.urandom(_KEY_SIZE))

    @staticmethod
    def from_pem(data: bytes, name: str) -> PrivateKey:
        """The key in a PKCS #8 file; ``name`` is the file's, for the message.

        Raises BadInput (``key.invalid``), Unavailable (``tool.missing``).
        """
        own = _PRIVATE_PEM.fullmatch(data)
        der = binascii.a2b_base64(own[1]) if own else b""
        if der.startswith(_PKCS8) and len(der) == len(_PKCS8) + _KEY_SIZE:
            return PrivateKey(der[len(_PKCS8):])
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise _no_library() from error
        if b"BEGIN PUBLIC KEY" in data[:MAX_KEY_FILE]:
            raise invalid(name, "a public key")
        try:
            key = serialization.load_pem_private_key(data[:MAX_KEY_FILE], password=None)
        except TypeError as error:
            raise invalid(name, "a key with a passphrase, which shype cannot ask for") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise invalid(name, "no private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise invalid(name, "no Ed25519 key but another kind")
        return PrivateKey(key.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw,
            serialization.NoEncryption(),
        ))

    def pem(self) -> bytes:
        """The content of a ``.key`` file: PKCS #8 in PEM, without a passphrase."""
        body = base64.b64encode(_PKCS8 + self.raw)
        return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"

    @property
    def public(self) -> PublicKey:
        """The public half. Raises Unavailable (``tool.missing``)."""
        raw = libcrypto.public(self.raw)
        if raw is not None:
            return PublicKey(raw)
        try:
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise _no_library() from error
        return PublicKey(Ed25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw,
        ))

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``: always the same for the same message.

        Raises Unavailable (``tool.missing``).
        """
        made = libcrypto.signs(self.raw, message)
        if made is not None:
            return made
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise _no_library() from error
        return Ed25519PrivateKey.from_private_bytes(self.raw).sign(message)


def invalid(name: str, what: str) -> BadInput:
    """The error for a key file that is not one."""
    return BadInput(
        "key.invalid", f"{name} is {what}",
        "`shype keys new NAME` makes NAME.key, which signs, and NAME.pub, which a host trusts",
    )


def _no_library() -> Unavailable:
    return Unavailable(
        "tool.missing", "signatures need the Python package 'cryptography', which is not there",
        "apt-get install python3-cryptography; elsewhere: pip install cryptography",
    )
