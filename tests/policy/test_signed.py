"""A bundle is believed only as a trusted key signed it, whatever is done to its bytes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy import contents, envelope, signed
from shype.policy.envelope import Envelope, Signature
from shype.policy.manifest import read_directory
from tests.host.builders import BANKS, bundle
from tests.policy.signed_bundles import NAME, load, refusal, sign
from tests.signing import AUTHOR, STRANGER, TRUSTED, sealed


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture(scope="module")
def good(unpacked: Path) -> bytes:
    return sealed(unpacked, AUTHOR)


@pytest.mark.parametrize("spoil", [
    lambda payload: b"{}",
    lambda payload: payload[:-1],
    lambda payload: payload.replace(b'"bank-a-db"', b'"bank-a-dd"', 1),
    lambda payload: payload.replace(b'"format":1', b'"format":2', 1),
])
def test_damage_in_the_payload_names_the_file(
    good: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    """Whoever has several bundles must know which to copy again."""
    payload = envelope.loads(good).payload
    with pytest.raises(BadInput) as caught:
        load(sign(spoil(payload), AUTHOR))
    assert caught.value.id == "bundle.corrupt"
    assert caught.value.message.count(str(NAME)) == 1


def test_it_is_what_was_built(good: bytes, unpacked: Path) -> None:
    found = load(good)
    assert found.policy.name == "banks"
    parts = contents.unpack(envelope.loads(good).payload)
    assert parts == read_directory(unpacked)
    assert parts.all_files() == {p.name: p.read_bytes() for p in unpacked.iterdir()}


def test_the_same_input_gives_the_same_bytes(good: bytes, unpacked: Path) -> None:
    assert sealed(unpacked, AUTHOR) == good
    both = sealed(unpacked, AUTHOR, STRANGER)
    assert sealed(unpacked, STRANGER, AUTHOR) == both
    assert sealed(unpacked, AUTHOR, AUTHOR) == good


def test_in_any_process(good: bytes, unpacked: Path) -> None:
    program = ("import sys; from pathlib import Path; from tests.signing import AUTHOR, sealed; "
               "sys.stdout.buffer.write(sealed(Path(sys.argv[1]), AUTHOR))")
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(unpacked)], check=True, capture_output=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)})
        assert done.stdout == good


def test_any_dsse_verifier_can_check_it(good: bytes) -> None:
    """Without a line of shype: the protocol of the DSSE specification."""
    value = json.loads(good)
    payload = base64.b64decode(value["payload"])
    kind = value["payloadType"].encode()
    message = b" ".join(
        [b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    public = load_pem_public_key(AUTHOR.public.pem())
    for item in value["signatures"]:
        public.verify(base64.b64decode(item["sig"]), message)  # type: ignore[union-attr,call-arg]
    assert envelope.pae(b"hello world") == (
        b"DSSEv1 33 application/vnd.shype.bundle+json 11 hello world")


# -- who signed it --------------------------------------------------------------------------------


def test_one_trusted_signature_is_enough(unpacked: Path) -> None:
    assert load(sealed(unpacked, STRANGER, AUTHOR)).policy.name == "banks"


def test_unsigned(unpacked: Path) -> None:
    assert refusal(sealed(unpacked)) == "bundle.unsigned"


def test_another_key(unpacked: Path) -> None:
    assert refusal(sealed(unpacked, STRANGER)) == "bundle.unknown-key"


def test_a_stranger_under_the_author_s_id(good: bytes) -> None:
    payload = envelope.loads(good).payload
    forged = Signature(AUTHOR.public.id, STRANGER.sign(envelope.pae(payload)))
    assert refusal(envelope.dumps(Envelope(payload, (forged,)))) == "bundle.altered"


def test_a_wrong_signature_of_a_trusted_key_is_not_made_good_by_another(
    good: bytes, unpacked: Path
) -> None:
    found = envelope.loads(sealed(unpacked, AUTHOR, STRANGER))
    broken = tuple(
        Signature(s.keyid, bytes(64)) if s.keyid == STRANGER.public.id else s
        for s in found.signatures)
    trusted = {**TRUSTED, STRANGER.public.id: STRANGER.public}
    with pytest.raises(BadInput) as caught:
        signed.require_signed(Envelope(found.payload, broken), NAME, trusted)
    assert caught.value.id == "bundle.altered"
    signed.require_signed(Envelope(found.payload, broken), NAME, TRUSTED)  # a stranger's: ignored


def test_a_valid_signature_over_other_bytes(good: bytes) -> None:
    found = envelope.loads(good)
    other = Envelope(found.payload.replace(b'"1.0"', b'"9.0"'), found.signatures)
    assert other.payload != found.payload
    assert refusal(envelope.dumps(other)) == "bundle.altered"


def test_a_signature_over_the_bare_payload_or_another_type(good: bytes) -> None:
    payload = envelope.loads(good).payload
    for message in (payload, envelope.pae(payload).replace(b"shype", b"other")):
        made = Signature(AUTHOR.public.id, AUTHOR.sign(message))
        assert refusal(envelope.dumps(Envelope(payload, (made,)))) == "bundle.altered"


# -- attacks on the envelope ----------------------------------------------------------------------


def _value(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Change the envelope as a value, and write it as shype would."""
    def changed(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return canonical.dumps(value)
    return changed


def _set(key: str, to: object) -> Callable[[bytes], bytes]:
    return _value(lambda value: value.__setitem__(key, to))


def _signature(**to: object) -> Callable[[bytes], bytes]:
    return _value(lambda value: value["signatures"][0].update(to))


ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "bundle.corrupt"),
    "newline": (lambda d: b"\n", "bundle.corrupt"),
    "null": (lambda d: b"null\n", "bundle.corrupt"),
    "truncated": (lambda d: d[:-1], "bundle.corrupt"),
    "half": (lambda d: d[:len(d) // 2], "bundle.corrupt"),
    "twice": (lambda d: d + d, "bundle.corrupt"),
    "bytes after it": (lambda d: d + b"\n", "bundle.corrupt"),
    "blank before it": (lambda d: b" " + d, "bundle.corrupt"),
    "byte order mark": (lambda d: b"\xef\xbb\xbf" + d, "bundle.corrupt"),
    "UTF-16": (lambda d: d.decode().encode("utf-16"), "bundle.corrupt"),
    "blanks": (lambda d: json.dumps(json.loads(d)).encode(), "bundle.corrupt"),
    "another order": (
        lambda d: json.dumps(dict(reversed(json.loads(d).items())), separators=(",", ":")).encode()
        + b"\n", "bundle.corrupt"),
    "escapes": (lambda d: d.replace(b"keyid", b"key\\u0069d"), "bundle.corrupt"),
    "payload twice": (lambda d: b'{"payload":"AAAA",' + d[1:], "bundle.corrupt"),
    "signatures twice": (
        lambda d: d.replace(b'"signatures":', b'"signatures":[],"signatures":'), "bundle.corrupt"),
    "sig twice": (lambda d: d.replace(b'"sig":', b'"sig":"AA==","sig":'), "bundle.corrupt"),
    "another type": (_set("payloadType", "application/vnd.in-toto+json"), "bundle.corrupt"),
    "no type": (_value(lambda v: v.pop("payloadType")), "bundle.corrupt"),
    "type a number": (_set("payloadType", 1), "bundle.corrupt"),
    "no signatures": (_value(lambda v: v.pop("signatures")), "bundle.corrupt"),
    "signatures null": (_set("signatures", None), "bundle.corrupt"),
    "signatures an object": (_set("signatures", {}), "bundle.corrupt"),
    "no signature": (_set("signatures", []), "bundle.unsigned"),
    "signatures of nothing": (_set("signatures", [None, [], 1, "x"]), "bundle.corrupt"),
    "one signature twice": (
        _value(lambda v: v["signatures"].append(v["signatures"][0])), "bundle.corrupt"),
    "many signatures": (
        _value(lambda v: v.update(signatures=[
            {"keyid": f"{n:064x}", "sig": v["signatures"][0]["sig"]} for n in range(17)
        ])), "bundle.corrupt"),
    "a member too many": (_set("other", 1), "bundle.corrupt"),
    "a member of a signature too many": (_signature(cert="x"), "bundle.corrupt"),
    "key id upper": (_value(lambda v: v["signatures"][0].update(
        keyid=v["signatures"][0]["keyid"].upper())), "bundle.corrupt"),
    "key id short": (_signature(keyid="abc"), "bundle.corrupt"),
    "key id null": (_signature(keyid=None), "bundle.corrupt"),
    "another key id": (_signature(keyid="0" * 64), "bundle.unknown-key"),
    "signature null": (_signature(sig=None), "bundle.corrupt"),
    "signature short": (_signature(sig="AAAA"), "bundle.corrupt"),
    "signature empty": (_signature(sig=""), "bundle.corrupt"),
    "signature zero": (
        _signature(sig=base64.b64encode(bytes(64)).decode()), "bundle.altered"),
    "signature URL-safe": (_signature(sig="_" * 86 + "=="), "bundle.corrupt"),
    "signature of surrogates": (_signature(sig="\\ud800" * 10), "bundle.corrupt"),
    "payload empty": (_set("payload", ""), "bundle.altered"),
    "payload cut": (_value(lambda v: v.update(payload=v["payload"][:-4])), "bundle.altered"),
    "payload not base64": (_set("payload", "!!!!"), "bundle.corrupt"),
    "payload with a line break": (
        _value(lambda v: v.update(payload=v["payload"][:4] + "\n" + v["payload"][4:])),
        "bundle.corrupt"),
    "payload with loose bits": (_set("payload", "AB=="), "bundle.corrupt"),
    "payload a number": (_set("payload", 1), "bundle.corrupt"),
    "a huge number": (
        lambda d: d.replace(b'"signatures":[', b'"signatures":[' + b"9" * 3000 + b","),
        "bundle.corrupt"),
    "deep": (
        lambda d: d.replace(b'"signatures":[', b'"signatures":[' + b"[" * 2000), "bundle.corrupt"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_the_envelope(good: bytes, name: str) -> None:
    attack, id = ATTACKS[name]
    changed = attack(good)
    assert changed != good
    assert refusal(changed) == id


def test_every_flipped_bit_is_noticed(good: bytes) -> None:
    """Every bit of the ends, where the structure is, and some of each byte between."""
    places = [*range(60), *range(60, len(good) - 400, 97), *range(len(good) - 400, len(good))]
    for place in places:
        for bit in range(8) if place < 60 or place >= len(good) - 400 else (place % 8,):
            changed = bytearray(good)
            changed[place] ^= 1 << bit
            with pytest.raises(BadInput):
                load(bytes(changed))


_EDIT = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2**20), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), st.integers(0, 2**20), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), st.integers(0, 2**20), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("swap"), st.integers(0, 2**20), st.binary(min_size=2, max_size=8)),
)


@settings(max_examples=400, deadline=1000, suppress_health_check=[HealthCheck.too_slow])
@given(edits=st.lists(_EDIT, min_size=1, max_size=4), near_the_end=st.booleans())
def test_no_mutation_is_accepted(
    good: bytes, edits: list[tuple[str, int, bytes]], near_the_end: bool
) -> None:
    data = good
    for kind, number, piece in edits:
        start = max(0, len(data) - 400) if near_the_end else 0
        at = start + number % max(1, len(data) - start)
        end = at + (0 if kind == "insert" else len(piece))
        middle = {"cut": b"", "swap": data[at:end][::-1]}.get(kind, piece)
        data = data[:at] + middle + data[end:]
    if data == good:
        assert load(data).policy.name == "banks"
        return
    with pytest.raises(BadInput):
        load(data)


@pytest.mark.parametrize("text", [BANKS, f"# Banks\n\n---\n{BANKS}", "policy: {}\nshype : 1\n"])
def test_a_policy_s_source_is_no_damaged_bundle(tmp_path: Path, text: str) -> None:
    path = tmp_path / "banks.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        signed.read(path)
    assert caught.value.id == "bundle.source"
    assert f"shype build {path} " in caught.value.fix
