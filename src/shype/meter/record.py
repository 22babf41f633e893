"""One line of the ledger: a signed envelope (DSSE) around canonical JSON that names its
predecessor.

The line is the envelope's one canonical form, so no byte of it can be changed unnoticed; the
hash of a record is that of its line.  docs/reference/metering.md has the members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shype.base import canonical
from shype.base.errors import BadInput
from shype.policy.ed25519 import PrivateKey, PublicKey
from shype.policy.envelope import Envelope, dumps, loads, sign

#: What the payload is.
KIND = "application/vnd.shype.meter+json"
#: What the first record has for the hash of its predecessor.
ZERO = "0" * 64
#: Longest line, bytes: some ten thousand VMs.
MAX_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """A line that is well formed; nothing is said of its signatures or its place."""

    seq: int
    prev: str
    kind: str
    hash: str
    body: Mapping[str, Any]
    envelope: Envelope

    def signed_by(self, key: PublicKey) -> bool:
        """Whether ``key`` made one of its signatures."""
        return self.envelope.signed_by(key, KIND)


def encode(body: Mapping[str, Any], seq: int, prev: str, keys: Sequence[PrivateKey]) -> bytes:
    """The line of a record, signed by all ``keys``. Raises Unavailable (``tool.missing``)."""
    payload = canonical.dumps({**body, "seq": seq, "prev": prev})
    return dumps(sign(payload, keys, KIND), KIND)


def decode(line: bytes) -> Record:
    """The record in ``line``. Raises ValueError, with a few words, if it is none."""
    try:
        if len(line) > MAX_LINE:
            raise ValueError("longer than any record")
        envelope = loads(line, KIND)
        body = json.loads(envelope.payload)
    except BadInput as error:
        raise ValueError("no whole record") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not isinstance(body, dict) or canonical.dumps(body) != envelope.payload:
        raise ValueError("not in canonical form")
    seq, prev, kind = body.get("seq"), body.get("prev"), body.get("kind")
    if type(seq) is not int or not isinstance(prev, str) or not isinstance(kind, str):
        raise ValueError("no number, predecessor or kind")
    return Record(seq, prev, kind, canonical.digest(line), body, envelope)
