"""The order to switch a host to another configuration vector: signed, dated, for once.

The only change that a static policy admits on a running host, so it takes the word of those
who may sign the policy itself.  A DSSE envelope like a bundle's (`shype.policy.envelope`) with
a payload of its own type, so that neither is ever taken for the other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shype.base import canonical
from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.policy import envelope, grammar
from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey
from shype.policy.names import VectorName

#: What the payload is.
PAYLOAD_TYPE = "application/vnd.shype.vector-order+json"
#: Largest order read, bytes.
MAX_ORDER = 64 * 1024
_FORMAT = 1
_KEYS = {"format", "policy", "version", "vector", "hosts", "serial", "expires"}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")


@dataclass(frozen=True, slots=True)
class Order:
    """Switch to ``vector`` of the policy ``policy`` ``version``.

    ``hosts``: the names of those that may follow it (none: every one that has the policy).
    ``serial`` grows with each order: microseconds since 1970 when it was given; a host follows
    none that is not higher than the last it followed.  ``expires``: seconds since 1970.
    """

    policy: str
    version: str
    vector: VectorName
    hosts: tuple[str, ...]
    serial: int
    expires: int

    @property
    def until(self) -> str:
        """``expires`` for people, in UTC."""
        return datetime.fromtimestamp(self.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def to_json(self) -> dict[str, object]:
        """The payload, without its format."""
        return {
            "policy": self.policy, "version": self.version, "vector": self.vector,
            "hosts": list(self.hosts), "serial": self.serial, "expires": self.expires,
        }


def give(
    policy: str, version: str, vector: VectorName, hosts: Sequence[str], seconds: int
) -> Order:
    """An order of this moment, good for ``seconds``. Raises BadInput ``order.host``."""
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise BadInput(
                "order.host", f"{host!r} is no host's name", "give what `hostname` prints there")
    now = time.time_ns()
    return Order(
        policy, version, vector, tuple(sorted(set(hosts))), now // 1000,
        now // 1_000_000_000 + seconds,
    )


def seal(order: Order, keys: Sequence[PrivateKey]) -> bytes:
    """The file of an order, signed with every one of ``keys``."""
    payload = canonical.dumps({"format": _FORMAT, **order.to_json()})
    return envelope.dumps(envelope.sign(payload, keys, PAYLOAD_TYPE), PAYLOAD_TYPE)


def read(path: Path, trusted: Mapping[KeyId, PublicKey]) -> tuple[Order, tuple[KeyId, ...]]:
    """The order in the file ``path``, and the trusted keys that have signed it.

    Raises BadInput: ``order.missing``, ``order.corrupt``, ``order.unsigned`` (no trusted key
    has), ``order.altered``; Unavailable (``tool.missing``).
    """
    try:
        data = read_regular(path, MAX_ORDER)
    except OSError as error:
        raise BadInput(
            "order.missing", f"the order {path} cannot be read: {error.strerror}",
            "on the author's machine: shype vector order POLICY VECTOR --key NAME.key -o FILE",
        ) from error
    try:
        found = envelope.loads(data, PAYLOAD_TYPE)
    except BadInput as error:
        raise _corrupt(path) from error
    known = [s for s in found.signatures if s.keyid in trusted]
    if not known:
        raise BadInput(
            "order.unsigned", f"{path} is signed by no key that is trusted here",
            "have it signed by who signs the policy",
        )
    message = envelope.pae(found.payload, PAYLOAD_TYPE)
    for signature in known:
        if not trusted[signature.keyid].verifies(message, signature.sig):
            raise BadInput(
                "order.altered",
                f"{path} is not what the key {signature.keyid[:16]} signed: it was altered",
                "copy it again; if that does not help, find out who changed it",
            )
    order = _order(found.payload)
    if order is None:
        raise _corrupt(path)
    return order, tuple(s.keyid for s in known)


def _order(payload: bytes) -> Order | None:
    try:
        value = json.loads(payload.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != _KEYS or value["format"] != _FORMAT:
        return None
    texts = [value[key] for key in ("policy", "version", "vector")]
    hosts, numbers = value["hosts"], [value["serial"], value["expires"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(hosts, list):
        return None
    policy, version, vector = texts
    if not (grammar.is_name(policy) and grammar.is_version(version) and grammar.is_name(vector)):
        return None
    if not all(isinstance(host, str) and _HOST.fullmatch(host) for host in hosts):
        return None
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        return None
    serial, expires = numbers
    if expires > 253_402_300_799:  # the year 9999, the last that can be shown
        return None
    return Order(policy, version, VectorName(vector), tuple(hosts), serial, expires)


def _corrupt(path: Path) -> BadInput:
    return BadInput(
        "order.corrupt", f"{path} is no order that `shype vector order` wrote",
        "give it again on the author's machine, and copy it whole",
    )
