"""Keys and signatures: known answers, the files, and what is not a key."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput, Unavailable
from shype.policy import libcrypto
from shype.policy.ed25519 import MAX_KEY_FILE, PrivateKey, PublicKey
from tests.signing import AUTHOR, STRANGER

#: RFC 8032 §7.1, test 2: secret key, public key, message, signature.
SECRET = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
MESSAGE = b"\x72"
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def pem(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes = b""
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password
        else serialization.NoEncryption())


def test_known_answer() -> None:
    key = PrivateKey(bytes.fromhex(SECRET))
    assert key.public.raw.hex() == PUBLIC
    assert key.sign(MESSAGE).hex() == SIGNATURE
    assert key.public.verifies(MESSAGE, bytes.fromhex(SIGNATURE))
    assert not key.public.verifies(MESSAGE + b"x", bytes.fromhex(SIGNATURE))
    assert not key.public.verifies(MESSAGE, bytes(64))
    assert not key.public.verifies(MESSAGE, b"short")
    assert not STRANGER.public.verifies(MESSAGE, bytes.fromhex(SIGNATURE))


def test_known_answer_without_libcrypto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypto, "_library", lambda: None)
    test_known_answer()


def test_files_are_those_of_others_too() -> None:
    public = serialization.load_pem_public_key(AUTHOR.public.pem())
    assert isinstance(public, ed25519.Ed25519PublicKey)
    assert PublicKey.from_pem(AUTHOR.public.pem(), "x") == AUTHOR.public
    written = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert PublicKey.from_pem(written, "x") == AUTHOR.public
    assert written == AUTHOR.public.pem()
    private = serialization.load_pem_private_key(AUTHOR.pem(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert PrivateKey.from_pem(AUTHOR.pem(), "x") == AUTHOR


def test_the_id_is_the_digest_of_the_der_form() -> None:
    """As `openssl pkey -pubin -outform DER | sha256sum` printed it for this key."""
    assert AUTHOR.public.id == "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5"
    assert len({AUTHOR.public.id, STRANGER.public.id}) == 2


def test_generated_keys_differ_and_never_show() -> None:
    one, two = PrivateKey.generate(), PrivateKey.generate()
    assert one != two
    assert one.raw.hex() not in repr(one)
    assert str(one.raw) not in repr(one)


@pytest.mark.parametrize("data", [
    b"", b"x", b"\xff" * 100, AUTHOR.pem(), AUTHOR.public.pem()[:-30],
    AUTHOR.public.pem().replace(b"MCow", b"MCox"), AUTHOR.public.pem() * 2,
    AUTHOR.public.pem() + b"more", b" " * (MAX_KEY_FILE + 1) + AUTHOR.public.pem(),
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
])
def test_what_is_no_public_key(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"garbage\.pub") as caught:
        PublicKey.from_pem(data, "garbage.pub")
    assert caught.value.id == "key.invalid"


@pytest.mark.parametrize(("data", "said"), [
    (b"", "no private key"), (b"\xff" * 100, "no private key"),
    (AUTHOR.public.pem(), "is a public key"), (AUTHOR.pem()[:60], "no private key"),
    (pem(ed25519.Ed25519PrivateKey.generate(), b"secret"), "passphrase"),
    (pem(ec.generate_private_key(ec.SECP256R1())), "another kind"),
])
def test_what_is_no_private_key(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        PrivateKey.from_pem(data, "garbage.key")
    assert caught.value.id == "key.invalid"


@given(st.binary(max_size=300))
def test_garbage_is_no_key(data: bytes) -> None:
    for text in (data, b"-----BEGIN PUBLIC KEY-----\n" + data + b"\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(BadInput):
            PublicKey.from_pem(text, "x")


def test_without_a_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypto, "_library", lambda: None)
    public = AUTHOR.public
    for name in [n for n in sys.modules if n.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(Unavailable, match="python3-cryptography") as caught:
        public.verifies(b"", bytes(64))
    assert caught.value.id == "tool.missing"
    with pytest.raises(Unavailable, match="python3-cryptography"):
        AUTHOR.sign(b"")
