"""The sender's part of xl's migration protocol (tools/xl/xl_migrate.c), for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from shype.base import child
from shype.base.errors import Unavailable

BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause\0"
GO = b"domain is yours, you are cleared to unpause\0"
REPORT = b"my copy unpause results are as follows\0"


class Line:
    """The stream to a receiver; ``said``: what it has said to people, once it has ended."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, said: Callable[[], str]) -> None:
        self._source, self._sink, self.said = source, sink, said

    def say(self, words: bytes) -> None:
        """Raises OSError if nobody hears it."""
        self._source.write(words)
        self._source.flush()

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer."""
        return self._sink.read(size)

    def hear(self, words: bytes) -> None:
        """Raises Unavailable if the receiver says something else, or nothing."""
        if self.read(len(words)) != words:
            raise Unavailable("xl.failed", f"the receiver does not say {words!r}")


def send(
    command: str, suspend: Callable[[Callable[[bytes], None]], None],
    resume: Callable[[], None], away: Callable[[], None],
) -> None:
    """Send a domain to the receiver that the shell's ``command`` runs.

    ``suspend`` gives its image to a sink, ``resume`` lets it go on, ``away`` marks it as given
    away. Raises Unavailable (``xl.failed``).
    """
    with child.conversation(("sh", "-c", command)) as (source, sink, said):
        line = Line(source, sink, said)
        try:
            line.hear(BANNER)
            suspend(line.say)
            line.hear(READY)
        except (OSError, Unavailable) as error:
            resume()
            raise Unavailable(
                "xl.failed", f"Migration failed, resuming at sender: {line.said()}") from error
        away()
        line.say(GO)
        line.hear(REPORT)
        if line.read(1) != b"\0":
            line.hear(GO)
            resume()
            raise Unavailable(
                "xl.failed", f"Migration failed due to problems at target: {line.said()}")
