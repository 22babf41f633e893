"""Signatures by libcrypto itself, against those of `cryptography`."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from shype.policy import libcrypto

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def judged(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@given(st.binary(max_size=200))
def test_what_was_signed(message: bytes) -> None:
    assert libcrypto.verifies(PUBLIC, message, KEY.sign(message)) is True


@given(st.binary(max_size=50), st.integers(0, 63), st.integers(1, 255), st.sampled_from("ksm"))
def test_one_changed_byte(message: bytes, place: int, flip: int, which: str) -> None:
    signature = bytearray(KEY.sign(message))
    key, text = bytearray(PUBLIC), bytearray(message or b"x")
    changed = {"k": key, "s": signature, "m": text}[which]
    changed[place % len(changed)] ^= flip
    assert libcrypto.verifies(bytes(key), bytes(text), bytes(signature)) is False


@pytest.mark.parametrize("signature", [
    b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64, KEY.sign(b"m") + b"x",
    # the group order added to S: the same equation, and malleable (RFC 8032 §5.1.7 wants S < L)
    KEY.sign(b"m")[:32] + (int.from_bytes(KEY.sign(b"m")[32:], "little")
                           + 2**252 + 27742317777372353535851937790883648493
                           ).to_bytes(32, "little"),
])
@pytest.mark.parametrize("key", [
    PUBLIC, bytes(32), b"\xff" * 32, b"\1" + bytes(31), b"short", b"", bytes(33)])
def test_odd_keys_and_signatures(key: bytes, signature: bytes) -> None:
    """A key of another length is not judged at all: the caller asks elsewhere."""
    answer = libcrypto.verifies(key, b"m", signature)
    assert answer is (judged(key, b"m", signature) if len(key) == 32 else None)


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypto, "NAMES", ("libshype-none.so.3", "libc.so.6"))
    libcrypto._library.cache_clear()
    try:
        assert libcrypto.verifies(PUBLIC, b"m", KEY.sign(b"m")) is None
    finally:
        libcrypto._library.cache_clear()
