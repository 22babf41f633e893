"""Event logs of tests, and a second, plain way to read what a log's replay must be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shype.attest.host_events import HostEvent, Kind

BUNDLE, MODULE, AGENT_CODE, IMAGE = (
    hashlib.sha256(name).hexdigest() for name in (b"bundle", b"module", b"agent", b"image"))
START = HostEvent(Kind.AGENT, {"agent": AGENT_CODE})
LOAD = HostEvent(
    Kind.POLICY, {"name": "banks", "version": "1.0", "bundle": BUNDLE, "module": MODULE})
ENFORCING = HostEvent(Kind.ENFORCEMENT, {"mode": "enforcing"})
LAUNCH = HostEvent(Kind.LAUNCH, {"label": "a-desk", "image": IMAGE})
TPM = HostEvent(Kind.TPM, {
    "vm": "a-desk", "uuid": "5e1f0000-0000-4000-8000-00000000000a", "label": "a-desk",
    "ek": hashlib.sha256(b"ek").hexdigest()})
#: One of each kind.
ALL = (START, LOAD, ENFORCING, HostEvent(Kind.VECTOR, {"vector": "night"}), LAUNCH, TPM)


def chain(digests: Iterable[bytes], start: bytes = bytes(32)) -> bytes:
    """A register after these digests."""
    for digest in digests:
        start = hashlib.sha256(start + digest).digest()
    return start
