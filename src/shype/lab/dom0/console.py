"""Answers of a guest's probe, and the ways to exchange lines with one.

An answer is a JSON object on one line, closed by the CRC-32 of its own bytes:
the guest's kernel prints on the same console and may cut into a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import termios
import time
import tty
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_ANSWER = re.compile(rb'(\{"id":(\d+),.*),"crc":"([0-9a-f]{8})"\}')
_ID = re.compile(rb'\{"id":(\d+),')
_POLL = 0.005  # seconds between two looks at a console log; an answer takes some 20 ms


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe said: ``members`` is the whole JSON object."""

    id: int
    op: str
    result: str
    members: Mapping[str, object]

    @property
    def ok(self) -> bool:
        """The operation was done."""
        return self.result == "ok"

    @property
    def denied(self) -> bool:
        """The hypervisor refused it, for certain."""
        return self.result == "denied"

    def number(self, name: str) -> int:
        """A member that must be a number; -1 if it is missing."""
        value = self.members.get(name, -1)
        return value if isinstance(value, int) else -1

    def text(self, name: str) -> str:
        """A member that must be a text; empty if it is missing."""
        value = self.members.get(name, "")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line that began as an answer and arrived broken; ``id`` if that much can be read."""

    id: int


class AnswerReader:
    """Finds answers in a stream of bytes that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Answer | Damaged]:
        """The answers that ``data`` completes, in order."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            yield from read_line(line)


def read_line(line: bytes) -> Iterator[Answer | Damaged]:
    """The answer in one line, if there is one (at most one)."""
    begin = _ID.search(line)
    if begin is None:
        return
    whole = _ANSWER.search(line)
    if whole is not None and zlib.crc32(whole[1]) == int(whole[3], 16):
        members = json.loads(whole[1] + b"}")
        yield Answer(int(whole[2]), str(members["op"]), str(members["result"]), members)
    else:
        yield Damaged(int(begin[1]))


class Channel(Protocol):
    """A way to a probe."""

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else asks this probe meanwhile."""

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""

    def receive(self, wait: float) -> bytes:
        """What has come since the last call; waits up to ``wait`` seconds for something."""

    def close(self) -> None:
        """Give up what the channel holds."""


@contextlib.contextmanager
def _locked(handle: int) -> Iterator[None]:
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data):]


class LogChannel:
    """Writes to the console's pty, reads the log that ``xenconsoled --log=all`` keeps.

    The log can be read by any number of programs, and nothing in it is lost to
    whoever else has the pty open (``xl console``).
    """

    def __init__(self, pty: Path, log: Path) -> None:
        self._pty = pty
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self._log, 0, os.SEEK_END)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        return _locked(self._log)

    def send(self, data: bytes) -> None:
        handle = os.open(self._pty, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _write_all(handle, data)
        finally:
            os.close(handle)

    def receive(self, wait: float) -> bytes:
        end = time.monotonic() + wait
        while not (data := os.read(self._log, 65536)):
            if time.monotonic() >= end:
                return b""
            time.sleep(_POLL)
        return data

    def close(self) -> None:
        os.close(self._log)


class PtyChannel:
    """Writes to and reads from the console's pty: for hosts that keep no console logs.

    Whatever another program reads from the pty at the same time is lost here.
    """

    def __init__(self, pty: Path) -> None:
        self._pty = os.open(pty, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        with contextlib.suppress(termios.error):
            tty.setraw(self._pty, termios.TCSANOW)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        return _locked(self._pty)

    def send(self, data: bytes) -> None:
        _write_all(self._pty, data)

    def receive(self, wait: float) -> bytes:
        ready, _, _ = select.select([self._pty], [], [], wait)
        return os.read(self._pty, 65536) if ready else b""

    def close(self) -> None:
        os.close(self._pty)
