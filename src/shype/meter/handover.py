"""A VM that migrates: what it has used here, in a statement that both hosts sign and both keep.

The sender says what its last figures of the VM are; the receiver, which runs it now, signs the same
bytes.  A receiver that does not answer leaves the statement with one signature, which `verify`
remarks.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from shype.base import canonical
from shype.base.errors import BadInput
from shype.meter.ledger import Ledger, Writer
from shype.meter.report import Sampled, history
from shype.meter.source import Moment
from shype.policy.ed25519 import PublicKey
from shype.policy.envelope import Envelope, dumps, loads, sign

#: What the payload is.
KIND = "application/vnd.shype.meter-handover+json"
#: Largest statement, bytes.
MAX_STATEMENT = 64 * 1024
#: Seconds between two looks at a VM that is on its way.
_LOOK = 1.0


@contextmanager
def followed(look: Callable[[], None]) -> Iterator[None]:
    """``look`` again and again meanwhile: the toolstack itself destroys what it has sent."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(_LOOK):
            look()

    look()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def statement(ledger: Ledger, vm: str, to: str) -> bytes | None:
    """What this host says of ``vm``, which has gone ``to`` another; None if it was never metered.

    Raises Unavailable (``meter.*``), BadInput (``meter.unreadable``).
    """
    last: Sampled | None = None
    for one in history(ledger.directory):
        if one.run.vm == vm:
            last = one
    if last is None:
        return None
    with ledger.writer() as writer:
        payload = canonical.dumps({
            "vm": vm, "uuid": last.run.uuid, "label": last.run.label, "from": os.uname().nodename,
            "to": to, "ledger": writer.head.ledger, "seq": writer.head.seq,
            "run": last.run.number, "usage": last.usage.row(), "time_ns": Moment.now().wall,
            "key": writer.key.public.raw.hex(),
        })
        return dumps(sign(payload, (writer.key,), KIND), KIND)


def taken(ledger: Ledger, data: bytes, runs: Callable[[str, str], bool]) -> bytes:
    """The receiver's part: sign the statement as well, and keep it.

    ``runs`` says whether the VM of that UUID and label runs here.  Raises BadInput
    (``meter.statement``), Unavailable (``meter.*``).
    """
    envelope, body = read(data)
    if not runs(body["uuid"], str(body["label"])):
        raise BadInput("meter.statement", f"{body['vm']} does not run here",
                       "the sender's shype asks once it has moved")
    with ledger.writer() as writer:
        own = sign(envelope.payload, (writer.key,), KIND)
        both = dumps(replace(own, signatures=(*envelope.signatures, *own.signatures)), KIND)
        _keep(writer, both)
        return both


def kept(ledger: Ledger, own: bytes, answer: bytes | None) -> bool:
    """The sender's part: keep what the receiver answered, or its own statement alone.

    Returns whether both have signed. Raises Unavailable (``meter.*``).
    """
    both = False
    if answer is not None:
        try:
            envelope, _ = read(answer)
            both = envelope.payload == read(own)[0].payload and len(envelope.signatures) == 2
        except BadInput:
            both = False
    with ledger.writer() as writer:
        _keep(writer, answer if both and answer is not None else own)
    return both


def read(data: bytes) -> tuple[Envelope, dict[str, Any]]:
    """A statement and what it says; its sender's signature fits. Raises BadInput."""
    try:
        if len(data) > MAX_STATEMENT:
            raise ValueError("too long")
        envelope = loads(data, KIND)
        body = json.loads(envelope.payload)
        words = [body[name] for name in ("vm", "uuid", "from", "to", "ledger", "key")]
        if not all(isinstance(word, str) for word in words):
            raise TypeError("words")
        key = PublicKey(bytes.fromhex(body["key"]))
        if not envelope.signed_by(key, KIND):
            raise ValueError("not signed by its sender")
        return envelope, body
    except (BadInput, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput("meter.statement", f"this is no statement of a VM that migrated: {error}",
                       "is the sender's shype of the same version?") from error


def signers(data: str, keys: Sequence[PublicKey]) -> tuple[int, bool]:
    """Of a statement in a record: how many have signed it, and whether one of ``keys`` did.

    Raises ValueError.
    """
    try:
        envelope, _ = read(data.encode())
    except BadInput as error:
        raise ValueError(error.message) from error
    mine = any(envelope.signed_by(key, KIND) for key in keys)
    return len(envelope.signatures), mine


def _keep(writer: Writer, data: bytes) -> None:
    writer.append({"kind": "handover", "statement": data.decode("ascii")})
