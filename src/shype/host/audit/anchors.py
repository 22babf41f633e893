"""Where the trail stood each time that a policy was loaded: one line each, outside the trail.

A trail that is later cut off, or replaced by an old copy, lacks a record that a line names.  Each
line is also handed to syslog and journald, so it is elsewhere if these send what they get to
another machine.  It is sealed as the trail's end is: with the verification key, a line that was
made up or changed is found.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shype.base.errors import ShypeError, Unavailable
from shype.base.files import read_regular
from shype.host.audit import export
from shype.host.audit.head import Head
from shype.host.audit.record import Key

#: Far more than the loads of any host need, bytes.
_MAX_FILE = 16 * 1024 * 1024
_LINE = re.compile(r"(\S{1,40}) (\S{1,64}) ([0-9a-f]{16}) (\d{1,18}):([0-9a-f]{64}) "
                   r"([0-9a-f]{64}) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy (by its ``digest``) was loaded in the ``boot`` at ``time``; the ``trail`` then ended
    with record ``seq``. ``proof`` is made with the key of the record behind it."""

    time: str
    boot: str
    trail: str
    seq: int
    hash: str
    digest: str
    proof: str = ""

    @classmethod
    def parse(cls, line: str) -> Loaded | None:
        """The line, or None if it is none."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        return cls(found[1], found[2], found[3], int(found[4]), found[5], found[6], found[7])

    @property
    def line(self) -> str:
        """As it stands in the file."""
        return (f"{self.time} {self.boot} {self.trail} {self.seq}:{self.hash} {self.digest} "
                f"{self.proof}")

    def proved(self, key: Key) -> Loaded:
        """The same with its proof."""
        return replace(self, proof=self._seal(key))

    def holds(self, key: Key) -> bool:
        """Whether the proof was made with ``key``, that of record ``seq`` + 1."""
        return hmac.compare_digest(self._seal(key), self.proof)

    def _seal(self, key: Key) -> str:
        said = "\0".join(("load", self.time, self.boot, self.trail, str(self.seq), self.hash,
                          self.digest))
        return hmac.digest(key, said.encode(), "sha256").hex()


def read(file: Path) -> tuple[tuple[int, Loaded | None], ...]:
    """Number and content of each line (None: it is damaged); nothing without a file.

    Raises OSError.
    """
    try:
        lines = read_regular(file, _MAX_FILE).decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return ()
    return tuple((number, Loaded.parse(line)) for number, line in enumerate(lines, 1))


def last(file: Path) -> Loaded | None:
    """The newest that is whole. Never raises."""
    try:
        found: Sequence[tuple[int, Loaded | None]] = read(file)
    except OSError:
        return None
    return next((each for _, each in reversed(found) if each is not None), None)


def note(file: Path, head: Head, *, time: str, boot: str, digest: str) -> Loaded:
    """Keep that a policy was loaded when the trail ended at ``head``.

    Raises OSError if the line cannot be kept here; that nobody takes it elsewhere is no error.
    """
    made = Loaded(time, boot, head.trail, head.seq, head.hash, digest).proved(head.key)
    with contextlib.suppress(Unavailable):
        export.send(export.SYSLOG, [export.plain(announcement(made))])
    with contextlib.suppress(Unavailable):
        export.send(export.JOURNALD, [export.plain_journal(announcement(made))])
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(file, flags, 0o600)
    try:
        # A line that a killed writer left unfinished must not swallow this one.
        begin = b"" if _ended(file) else b"\n"
        os.write(handle, begin + made.line.encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    return made


def announcement(made: Loaded) -> str:
    """What the system's log gets."""
    return f"audit anchor {made.seq}:{made.hash} of trail {made.trail}: policy {made.digest} loaded"


def _ended(file: Path) -> bool:
    with contextlib.suppress(OSError, ShypeError):
        data = read_regular(file, _MAX_FILE)
        return not data or data.endswith(b"\n")
    return True
