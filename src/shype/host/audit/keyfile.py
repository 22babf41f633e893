"""The verification key as a file: what the administrator takes off the host."""

from __future__ import annotations

import re
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.host.audit.record import Key

_LINE = re.compile(r"shype-audit-key 1 ([0-9a-f]{16}) ([0-9a-f]{64})\n?")


def text(trail: str, key: Key) -> bytes:
    """One line: a word, the format, the trail's id, the key of its first record."""
    return f"shype-audit-key 1 {trail} {key.hex()}\n".encode()


def read(path: Path) -> tuple[str, Key]:
    """The trail's id and the key. Raises BadInput (``audit.key``)."""
    try:
        found = _LINE.fullmatch(read_regular(path, 4096).decode("ascii", errors="replace"))
    except OSError as error:
        raise BadInput(
            "audit.key", f"the verification key {path} cannot be read: {error.strerror}",
            "shype audit key prints it, once",
        ) from error
    if found is None:
        raise BadInput("audit.key", f"{path} holds no verification key",
                       "it is one line: shype-audit-key 1 TRAIL KEY")
    return found[1], Key(bytes.fromhex(found[2]))
