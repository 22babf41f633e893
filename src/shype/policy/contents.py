"""What a bundle holds, as its payload: one canonical JSON.

``{"artefacts": {NAME: {"size": N, "zlib": BASE64}}, "format": 1, "manifest": {...},
"policy": {...}}``.  Manifest and policy can be read with any JSON tool; the artefacts,
which only the hypervisor and auditors read, are compressed to a tenth.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from shype.base import canonical
from shype.policy.envelope import corrupt

#: The only payload format there is.
FORMAT = 1
#: The files that a manifest vouches for.
FILES = ("policy.bin", "policy.cil", "policy.json")
#: Those of them that are not JSON.
ARTEFACTS = ("policy.bin", "policy.cil")
#: Largest file in a bundle, bytes: Xen's MAX_POLICY_SIZE (xen/xsm/flask/flask_op.c).
MAX_FILE = 64 * 1024 * 1024
#: Most JSON values in a payload: they take about 100 bytes each when read. A policy at the
#: hypervisor's own limit (65,000 labels) has less than half as many.
MAX_VALUES = 4_000_000
#: zlib's own default. Its output is the same wherever the same zlib is installed.
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Contents:
    """The parts of a bundle: two JSON values, and the bytes of `FILES`."""

    manifest: object
    policy: object
    files: Mapping[str, bytes]

    def all_files(self) -> dict[str, bytes]:
        """The bytes of `FILES` and of ``manifest.json``."""
        return {**self.files, "manifest.json": canonical.dumps(self.manifest)}


def pack(contents: Contents) -> bytes:
    """The payload. The same contents always give the same bytes."""
    return canonical.dumps({
        "format": FORMAT,
        "manifest": contents.manifest,
        "policy": contents.policy,
        "artefacts": {name: _deflated(contents.files[name]) for name in ARTEFACTS},
    })


def unpack(payload: bytes) -> Contents:
    """The inverse of `pack`; whether the parts fit together is for the manifest to say.

    Memory and time are bounded for any payload. Raises BadInput (``bundle.corrupt``).
    """
    value = parse(payload, "the payload")
    keys = {"artefacts", "format", "manifest", "policy"}
    if not isinstance(value, dict) or set(value) != keys:
        raise corrupt("the payload is not the one of a bundle")
    if type(value["format"]) is not int or value["format"] != FORMAT:
        raise corrupt(f"the payload's format is not {FORMAT}")
    artefacts = value["artefacts"]
    if not isinstance(artefacts, dict) or set(artefacts) != set(ARTEFACTS):
        raise corrupt("the payload lacks an artefact, or has one too many")
    try:
        policy = canonical.dumps(value["policy"])
        same = canonical.dumps(value) == payload
    except (ValueError, RecursionError) as error:
        raise corrupt("the payload has no canonical form") from error
    if not same:
        raise corrupt("the payload is not in canonical form")
    files = {name: _inflated(artefacts[name], name) for name in ARTEFACTS}
    return Contents(value["manifest"], value["policy"], {**files, "policy.json": policy})


def parse(data: bytes, name: str) -> object:
    """JSON of a bundle; ``name`` is for the message. Raises BadInput (``bundle.corrupt``)."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise corrupt(f"{name} has too many parts")
    try:
        value: object = json.loads(
            data.decode(), object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise corrupt(f"{name} is not JSON ({error})") from error
    return value


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; a key that stands twice would let two readers see two policies."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def _deflated(data: bytes) -> dict[str, object]:
    return {"size": len(data), "zlib": base64.b64encode(zlib.compress(data, _LEVEL)).decode()}


def _inflated(value: object, name: str) -> bytes:
    if not isinstance(value, dict) or set(value) != {"size", "zlib"}:
        raise corrupt(f"{name} is not an artefact")
    size, text = value["size"], value["zlib"]
    if type(size) is not int or not 0 <= size <= MAX_FILE or not isinstance(text, str):
        raise corrupt(f"{name} is not an artefact of at most {MAX_FILE} bytes")
    stream = zlib.decompressobj()
    try:
        packed = binascii.a2b_base64(text.encode(), strict_mode=True)
        data = stream.decompress(packed, size + 1)
    except (ValueError, zlib.error) as error:
        raise corrupt(f"{name} cannot be unpacked") from error
    if len(data) != size or not stream.eof or stream.unused_data:
        raise corrupt(f"{name} does not have the size that is stated")
    return data
