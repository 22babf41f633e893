"""Where the end of the ledger is remembered outside of it, so that an old copy of all of it is
found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from shype.meter.ledger import Ledger, Writer


@dataclass(frozen=True, slots=True)
class Point:
    """A record that is remembered: its number and hash (hex digits, at least the first 16)."""

    seq: int
    hash: str

    def holds(self, seq: int, hash: str) -> bool:
        """Whether it is that record."""
        return self.seq == seq and hash.startswith(self.hash)

    @classmethod
    def parse(cls, text: str) -> Point:
        """From ``SEQ:HASH``. Raises ValueError."""
        seq, _, hash = text.partition(":")
        if not seq.isdigit() or len(hash) < 16 or set(hash) - set("0123456789abcdef"):
            raise ValueError("not SEQ:HASH")
        return cls(int(seq), hash)

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


class Anchor(Protocol):
    """A counter that only grows, and that nobody who owns the host can turn back."""

    #: How records name it.
    name: str

    def begin(self) -> dict[str, Any]:
        """Make it, if need be; what a ledger says of it when it begins to use it.

        Raises Unavailable.
        """

    def now(self) -> int:
        """What it counts now. Raises Unavailable."""

    def advance(self) -> int:
        """Count one more, and return the new number. Raises Unavailable."""


def anchor(ledger: Ledger, where: Anchor) -> Point:
    """Put the end of the ledger where it is remembered; the record that says so.

    The record has the number that the counter is to get, and is written before it: a copy
    of the ledger from before is behind the counter then.  One that is killed in between leaves a
    record whose number is one ahead, and is made good here.  Raises Unavailable.
    """
    with ledger.writer() as writer:
        return anchored(writer, where)


def anchored(writer: Writer, where: Anchor) -> Point:
    """The same, for who has the ledger's lock."""
    about = writer.head.anchor
    if about is None or about["by"] != where.name:
        about = {"by": where.name, **where.begin(), "count": where.now()}
    elif about["count"] == where.now() + 1:
        where.advance()
    count = where.now() + 1
    about = {**about, "count": count}
    writer.append({"kind": "anchor", "anchor": about}, anchor=about)
    where.advance()
    return Point(writer.head.seq, writer.head.hash)
