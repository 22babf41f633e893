"""Where the chain ends: the file ``head``, written anew with each record.

It has two slots, written in turn, each with a check sum: a torn write leaves the other one.
The slot that is out of date is wiped, because it holds the key of a record that is written.
The file keeps its size, so a full disk does not keep it from being written.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shype.base.files import read_regular
from shype.host.audit.record import Key

SLOT = 4096
_EMPTY = b"\0" * SLOT


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a trail.

    ``seq`` and ``hash`` of the last record; ``first`` record and length (``offset``, bytes) of
    the file that is written now; bytes used in the ``reserve``; how many events were ``lost``
    when that was full, too; the ``key`` of record ``seq`` + 1 (empty in a copy for others);
    ``proof``: made with that key, it shows that the trail had come so far.
    """

    trail: str
    seq: int
    hash: str
    first: int
    offset: int
    reserve: int
    lost: int
    turn: int
    key: Key
    proof: str = ""

    def proved(self) -> Head:
        """The same with its proof."""
        return replace(self, proof=proof(self.key, self))

    def public(self) -> Head:
        """The same without the key: what may leave the host."""
        return replace(self, key=Key(b""))


class Damaged(ValueError):
    """The file is there and holds no head."""


def proof(key: Key, head: Head) -> str:
    """What only somebody with the key of record ``head.seq`` + 1 can make."""
    said = "\0".join(("head", head.trail, str(head.seq), head.hash, str(head.first),
                      str(head.offset), str(head.reserve), str(head.lost)))
    return hmac.digest(key, said.encode(), "sha256").hex()


def fresh(key: Key, head: Head, nonce: str) -> str:
    """The same about now: ``nonce`` was chosen by who asks, so no earlier answer fits."""
    said = "\0".join(("fresh", head.trail, str(head.seq), head.hash, nonce))
    return hmac.digest(key, said.encode(), "sha256").hex()


def read(path: Path) -> Head | None:
    """The newest head in the file, or None without a file.

    Raises Damaged, and OSError if it cannot be read.
    """
    try:
        data = read_regular(path, 2 * SLOT)
    except FileNotFoundError:
        return None
    found = [head for slot in (data[:SLOT], data[SLOT:]) if (head := _parse(slot)) is not None]
    if not found:
        raise Damaged("no slot is whole")
    return max(found, key=lambda head: head.turn)


def image(head: Head) -> bytes:
    """A whole new file."""
    data = _dump(head)
    return data + _EMPTY if head.turn % 2 == 0 else _EMPTY + data


def advance(handle: int, head: Head) -> Head:
    """Write ``head`` durably in the place of its predecessor; ``handle`` is the open file.

    Returns it as written (turn and proof set). Raises OSError.
    """
    new = replace(head, turn=head.turn + 1).proved()
    place = new.turn % 2 * SLOT
    _write(handle, _dump(new), place)
    os.fdatasync(handle)
    # Only now is the old key of no more use; it reaches the disk with the next record at latest.
    _write(handle, _EMPTY, SLOT - place)
    return new


def _write(handle: int, data: bytes, place: int) -> None:
    if os.pwrite(handle, data, place) != len(data):
        raise OSError("short write")


def _dump(head: Head) -> bytes:
    value = {**asdict(head), "key": head.key.hex()}
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return f"{hashlib.sha256(text).hexdigest()} ".encode() + text + b"\n" + b"\0" * (
        SLOT - 66 - len(text))


def _parse(slot: bytes) -> Head | None:
    said, _, text = slot.rstrip(b"\0").rstrip(b"\n").partition(b" ")
    if hashlib.sha256(text).hexdigest().encode() != said:
        return None
    try:
        return _head(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # a check sum that fits was made by somebody else than this program


def _head(value: dict[str, Any]) -> Head:
    words = {name: value[name] for name in ("trail", "hash", "proof")}
    numbers = {name: value[name]
               for name in ("seq", "first", "offset", "reserve", "lost", "turn")}
    if not all(isinstance(word, str) for word in words.values()):
        raise TypeError("word")
    if not all(type(number) is int and number >= 0 for number in numbers.values()):
        raise TypeError("number")
    return Head(**words, **numbers, key=Key(bytes.fromhex(value["key"])))
