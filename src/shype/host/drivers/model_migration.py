"""The sender's part of xl's migration protocol (tools/xl/xl_migrate.c), for the model."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import BinaryIO

from shype.base.errors import Unavailable

BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause\0"
GO = b"domain is yours, you are cleared to unpause\0"
REPORT = b"my copy unpause results are as follows\0"


class Line:
    """The stream to a receiver."""

    def __init__(self, process: subprocess.Popen[bytes], err: BinaryIO) -> None:
        self._process, self._err = process, err

    def say(self, words: bytes) -> None:
        """Raises OSError if nobody hears it."""
        assert self._process.stdin is not None
        self._process.stdin.write(words)
        self._process.stdin.flush()

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def hear(self, words: bytes) -> None:
        """Raises Unavailable if the receiver says something else, or nothing."""
        if self.read(len(words)) != words:
            raise Unavailable("xl.failed", f"the receiver does not say {words!r}")

    def said(self) -> str:
        """What it has said to people, once it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._err.seek(0)
        return self._err.read().decode(errors="replace")


def send(
    command: str, suspend: Callable[[Callable[[bytes], None]], None],
    resume: Callable[[], None], away: Callable[[], None],
) -> None:
    """Send a domain to the receiver that the shell's ``command`` runs.

    ``suspend`` gives its image to a sink, ``resume`` lets it go on, ``away`` marks it as given
    away. Raises Unavailable (``xl.failed``).
    """
    with _receiver(command) as line:
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


@contextlib.contextmanager
def _receiver(command: str) -> Iterator[Line]:
    """Run the shell's ``command``."""
    with os.fdopen(os.memfd_create("err"), "w+b") as err:
        process = subprocess.Popen(
            ("sh", "-c", command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)
        try:
            yield Line(process, err)
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()
