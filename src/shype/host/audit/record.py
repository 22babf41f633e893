"""One line of the audit trail: a JSON object that names its predecessor, its hash and its seal.

The body is ASCII JSON with sorted keys (``ensure_ascii``: no name of a VM can break a line or
steer a terminal).  ``,"hash":"...","mac":"..."`` is inserted before its last brace, so that the
hash is over bytes that stand in the file and nothing must be serialised again to check it.

The key of record n+1 is made from the key of record n by a one-way function, and the old one is
erased: who takes over the host can seal what comes after, never anew what came before.
(B. Schneier, J. Kelsey: Secure Audit Logs to Support Computer Forensics, 1999.)
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType

Key = NewType("Key", bytes)

#: What the first record has for the hash of its predecessor.
ZERO = "0" * 64
#: Longest line, bytes; `shype.host.audit.stamp` keeps bodies below it.
MAX_LINE = 64 * 1024

_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})","mac":"([0-9a-f]{64})"\}\n')
_SEAL_LENGTH = len(',"hash":"","mac":""}\n') + 2 * 64


@dataclass(frozen=True, slots=True)
class Record:
    """A line that is whole: its hash fits its body. Says nothing of the chain or the seal."""

    seq: int
    prev: str
    hash: str
    mac: str
    body: Mapping[str, Any]
    line: str


def encode(body: Mapping[str, Any], seq: int, prev: str, key: Key) -> tuple[bytes, str]:
    """The line of a record, and its hash."""
    text = json.dumps({**body, "seq": seq, "prev": prev}, sort_keys=True, separators=(",", ":"))
    data = text.encode("ascii")
    digest = hashlib.sha256(data).hexdigest()
    return data[:-1] + f',"hash":"{digest}","mac":"{seal(key, digest)}"}}\n'.encode(), digest


def decode(line: bytes) -> Record:
    """The record in ``line``. Raises ValueError, with a few words, if it is none."""
    if len(line) > MAX_LINE:
        raise ValueError("longer than any record")
    found = _SEAL.fullmatch(line[-_SEAL_LENGTH:])
    if found is None:
        raise ValueError("no whole record")
    data = line[:-_SEAL_LENGTH] + b"}"
    digest = found[1].decode()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("changed: its hash does not fit its text")
    try:
        body = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not isinstance(body, dict):
        raise ValueError("no JSON object")
    seq, prev = body.get("seq"), body.get("prev")
    if type(seq) is not int or not 1 <= seq < 1 << 63:
        raise ValueError("no sequence number or predecessor")
    if not isinstance(prev, str) or len(prev) != len(ZERO):
        raise ValueError("no sequence number or predecessor")
    return Record(seq, prev, digest, found[2].decode(), body, line.decode("ascii"))


def seal(key: Key, digest: str) -> str:
    """HMAC-SHA256 of a record's hash (64 hex digits) under the key of that record."""
    return hmac.digest(key, digest.encode(), "sha256").hex()


def following(key: Key) -> Key:
    """The key of the next record; from it nobody gets ``key`` back."""
    return Key(hashlib.sha256(b"shype audit key\0" + key).digest())
