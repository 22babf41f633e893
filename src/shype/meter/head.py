"""The end of a ledger: the file ``head.json``, replaced with each record, before the record.

It holds the record's whole line: a writer that is killed between the two leaves what the next
one needs to finish its work, and no figure is counted twice or lost.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shype.base import canonical
from shype.base.files import read_regular, write_atomic
from shype.meter.account import Account

_FORMAT = 1
_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """After record ``seq`` of the ledger ``ledger``: its ``line``, its ``hash``, where the current
    file had ended before it (``offset``), the file's ``first`` record, and the public ``key``
    (64 hex digits) of the next record.

    ``runs``: how many there have been; ``anchor``: what the last record of an anchor said;
    ``at``: uptime of the last sample (nanoseconds) in the boot ``boot``.
    """

    ledger: str
    seq: int
    hash: str
    line: bytes
    first: int
    offset: int
    key: str
    runs: int = 0
    anchor: Mapping[str, Any] | None = None
    boot: str = ""
    at: int = 0
    accounts: Mapping[int, Account] = field(default_factory=dict)


class Damaged(ValueError):
    """The file is there and holds no head."""


def read(path: Path) -> Head | None:
    """The head, or None without a file. Raises Damaged, OSError."""
    try:
        value: Any = json.loads(read_regular(path, _MAX))
        if value.pop("format") != _FORMAT:
            raise ValueError("format")
        accounts = [Account.of(item) for item in value.pop("accounts")]
        line = base64.b64decode(value.pop("line"), validate=True)
        head = Head(line=line, accounts={a.run.number: a for a in accounts}, **value)
        numbers = (head.seq, head.first, head.offset, head.runs, head.at)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError("numbers")
        return head
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as e:
        raise Damaged(f"{path.name} is damaged") from e


def write(path: Path, head: Head) -> None:
    """Replace it durably. Raises OSError."""
    write_atomic(path, canonical.dumps({
        "format": _FORMAT, "ledger": head.ledger, "seq": head.seq, "hash": head.hash,
        "line": base64.b64encode(head.line).decode(), "first": head.first,
        "offset": head.offset, "key": head.key, "runs": head.runs, "anchor": head.anchor,
        "boot": head.boot, "at": head.at,
        "accounts": [head.accounts[run].to_json() for run in sorted(head.accounts)],
    }), 0o600)
