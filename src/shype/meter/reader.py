"""The lines of a ledger, in order, and what they say; for verification and for reports."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput
from shype.meter.places import Places
from shype.meter.record import MAX_LINE

#: Longest closed file, bytes, unpacked: far more than `ledger.FULL` and a line.
_LONGEST = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """``number`` counts from 1 in its file; ``problem``: the file cannot be read on."""

    file: Path
    number: int
    data: bytes
    problem: str = ""


def lines(directory: Path) -> Iterator[Line]:
    """All lines. Raises BadInput (``meter.no-ledger``) if there is none."""
    places = Places(directory)
    files = [path for _, path in places.all_closed()]
    if places.current.exists():
        # A writer that was killed when it closed a file leaves both.
        if files and _first(files[-1]) == _first(places.current):
            files.pop()
        files.append(places.current)
    if not files:
        raise no_ledger(directory)
    for path in files:
        yield from _lines(path)


def no_ledger(directory: Path) -> BadInput:
    """The error for a directory without one."""
    return BadInput("meter.no-ledger", f"there is no ledger in {directory}",
                    "`shype meter begin` begins one on a host; --ledger DIR names another "
                    "directory, or a copy")


def _first(path: Path) -> bytes | None:
    return next((line.data for line in _lines(path)), None)


def _lines(path: Path) -> Iterator[Line]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            read = 0
            while read <= _LONGEST and (data := file.readline(MAX_LINE + 1)):
                number += 1
                read += len(data)
                yield Line(path, number, data)
            if read > _LONGEST:
                yield Line(path, number, b"", "longer than any file of a ledger")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield Line(path, number + 1, b"", f"cannot be unpacked: {error}")
