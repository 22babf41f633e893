"""What a trusted key signed and is still no bundle; sizes, and files."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy import contents, envelope, signed
from shype.policy.contents import Contents
from shype.policy.ed25519 import KeyId
from shype.policy.envelope import PAYLOAD_TYPE, Envelope, Signature
from tests.host.builders import bundle
from tests.policy.signed_bundles import refusal, sign
from tests.signing import AUTHOR, sealed


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture(scope="module")
def good(unpacked: Path) -> bytes:
    return sealed(unpacked, AUTHOR)


# -- what a trusted key signed, and is still no bundle --------------------------------------------


def _payload(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def changed(payload: bytes) -> bytes:
        value = json.loads(payload)
        change(value)
        return canonical.dumps(value)
    return changed


def _artefact(**to: object) -> Callable[[bytes], bytes]:
    return _payload(lambda value: value["artefacts"]["policy.bin"].update(to))


def _zlib(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


PAYLOADS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda p: b"",
    "null": lambda p: b"null\n",
    "list": lambda p: b"[]\n",
    "not UTF-8": lambda p: b"\xff" + p,
    "blanks": lambda p: json.dumps(json.loads(p)).encode(),
    "no newline": lambda p: p[:-1],
    "format twice": lambda p: p.replace(b'"format":1', b'"format":1,"format":1', 1),
    "format true": _payload(lambda v: v.update(format=True)),
    "format 2": _payload(lambda v: v.update(format=2)),
    "a member missing": _payload(lambda v: v.pop("policy")),
    "a member too many": _payload(lambda v: v.update(more=1)),
    "policy null": _payload(lambda v: v.update(policy=None)),
    "another policy": _payload(lambda v: v["policy"].update(version="2.0")),
    "manifest null": _payload(lambda v: v.update(manifest=None)),
    "manifest of another": _payload(lambda v: v["manifest"].update(target="xen-4.18")),
    "NaN": lambda p: p.replace(b'"format":1', b'"format":NaN', 1),
    "a float": lambda p: p.replace(b'"format":1', b'"format":1.0', 1),
    "a huge number": lambda p: p.replace(b'"format":1', b'"format":' + b"1" * 5000, 1),
    "a huge exponent": lambda p: p.replace(b'"format":1', b'"format":1e999', 1),
    "surrogates": lambda p: p.replace(b'"format":1', b'"format":"\\ud800"', 1),
    "deep": lambda p: b"[" * 100_000 + b"]" * 100_000,
    "artefacts null": _payload(lambda v: v.update(artefacts=None)),
    "an artefact missing": _payload(lambda v: v["artefacts"].pop("policy.cil")),
    "an artefact too many": _payload(lambda v: v["artefacts"].update({"../x": {}})),
    "an artefact null": _payload(lambda v: v["artefacts"].update({"policy.bin": None})),
    "another artefact": _artefact(size=5, zlib=_zlib(b"other")),
    "size too small": _artefact(size=2),
    "size too large": _artefact(size=4),
    "size negative": _artefact(size=-1),
    "size true": _artefact(size=True),
    "size beyond all": _artefact(size=2**80),
    "zlib null": _artefact(zlib=None),
    "zlib not base64": _artefact(zlib="!"),
    "zlib not ASCII": _artefact(zlib="\u00e4"),
    "zlib empty": _artefact(zlib=""),
    "zlib garbage": _artefact(zlib="AAAA"),
    "zlib with more after it": _artefact(
        zlib=base64.b64encode(zlib.compress(b"bin") + b"more").decode()),
    "zlib cut": _artefact(zlib=base64.b64encode(zlib.compress(b"bin")[:-4]).decode()),
    "a bomb": _artefact(size=3, zlib=_zlib(bytes(50_000_000))),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_signature_makes_no_bundle_of_other_things(good: bytes, name: str) -> None:
    payload = envelope.loads(good).payload
    changed = PAYLOADS[name](payload)
    assert changed != payload
    began = time.monotonic()
    assert refusal(sign(changed, AUTHOR)) == "bundle.corrupt"
    assert time.monotonic() - began < 5


# -- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [
    bytes(50_000_000), b"\xff" * 50_000_000, b"[" * 50_000_000, b'{"payload":"' * 4_000_000,
    b'{"payload":"' + b"A" * 50_000_000, b'{"payload":"","x":[' + b"{}," * 16_000_000,
    b'{"payload":"' + b"A" * 50_000_000 + b'",' + b"1," * 1000,
], ids=["zero", "ff", "deep", "again", "no end", "objects", "long"])
def test_fifty_megabytes_of_garbage(shape: bytes) -> None:
    tracemalloc.start()
    began = time.monotonic()
    try:
        assert refusal(shape) == "bundle.corrupt"
        assert time.monotonic() - began < 5
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_a_payload_of_many_values_is_refused_before_it_is_read(good: bytes) -> None:
    """Also by `shype bundle show`, which looks into bundles that nobody vouches for."""
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="too many parts"):
            contents.unpack(b"[" + b"{}," * 8_000_000 + b"{}]")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_unfolded(good: bytes) -> None:
    payload = PAYLOADS["a bomb"](envelope.loads(good).payload)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="size"):
            contents.unpack(payload)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_too_large_a_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.shype"
    with file.open("wb") as sparse:
        sparse.truncate(envelope.MAX_BUNDLE + 1)
    with pytest.raises(BadInput, match="larger") as caught:
        signed.read(file)
    assert caught.value.id == "bundle.corrupt"


# -- files ----------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path: Path, good: bytes) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(good)
    for name, id in (
        ("none", "bundle.missing"), ("file/below", "bundle.missing"), (".", "bundle.unsigned"),
        ("fifo", "bundle.corrupt"),
    ):
        with pytest.raises(BadInput) as caught:
            signed.read(tmp_path / name)
        assert caught.value.id == id
    (tmp_path / "link").symlink_to("file")  # what is signed may come by any way
    assert signed.read(tmp_path / "link") == envelope.loads(good)


@given(payload=st.binary(max_size=200), keys=st.sets(st.integers(0, 5), max_size=5))
def test_envelopes_survive(payload: bytes, keys: set[int]) -> None:
    made = Envelope(payload, tuple(
        Signature(KeyId(f"{n:064x}"), bytes([n] * 64)) for n in sorted(keys)))
    data = envelope.dumps(made)
    assert envelope.loads(data) == made
    assert json.loads(data)["payloadType"] == PAYLOAD_TYPE


@given(files=st.fixed_dictionaries({n: st.binary(max_size=500) for n in contents.ARTEFACTS}))
def test_contents_survive(files: dict[str, bytes]) -> None:
    policy = {"name": "\u00e4\u0000\u2028", "n": [1, None, True]}
    made = Contents({"a": {}}, policy, {**files, "policy.json": canonical.dumps(policy)})
    assert contents.unpack(contents.pack(made)) == made
