"""Reads trails, also copied and damaged ones. Never raises over their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.host.audit import head as heads
from shype.host.audit.head import Head
from shype.host.audit.places import Places
from shype.host.audit.record import MAX_LINE, Record, decode
from shype.host.audit.writer import RESERVE


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it stands in a file, its end included; ``number`` counts from 1."""

    file: Path
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """The files of one trail, from one or several directories (full files may be elsewhere).

    ``closed``: number of the first and last record by the file's name, and the file.
    ``damage`` is why ``head`` is None.
    """

    closed: tuple[tuple[int, int, Path], ...]
    places: Places
    head: Head | None
    damage: str

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, in the order of their records."""
        last = (self.places.current,) if self.places.current.is_file() else ()
        return (*(path for _, _, path in self.closed), *last)

    def lines(self) -> Iterator[Line]:
        """Every line, those in the reserve last."""
        for file in self.files:
            yield from _lines(file)
        yield from self.reserved()

    def reserved(self) -> Iterator[Line]:
        """What waits in the reserve for room."""
        if self.head is None or not self.head.reserve:
            return
        try:
            data = read_regular(self.places.reserve, RESERVE)[:self.head.reserve]
        except OSError:
            data = b""
        for number, line in enumerate(data.split(b"\n")[:-1], 1):
            yield Line(self.places.reserve, number, line + b"\n")


def stored(directories: Sequence[Path]) -> Stored:
    """The trail in ``directories``.

    Raises BadInput (``audit.no-trail``) if one is no directory, or none has records;
    OSError if one cannot be read.
    """
    closed: list[tuple[int, int, Path]] = []
    with_head = []
    for directory in directories:
        if not directory.is_dir():
            raise BadInput("audit.no-trail", f"there is no directory {directory}",
                           "name the directory of the trail: /var/lib/shype/audit, or a copy")
        places = Places(directory)
        closed += places.closed()
        if places.head.exists() or places.current.exists():
            with_head.append(places)
    if not with_head and not closed:
        raise BadInput("audit.no-trail", f"{directories[0]} holds no audit trail",
                       "name the directory of the trail: /var/lib/shype/audit, or a copy")
    if len(with_head) > 1:
        raise BadInput(
            "audit.no-trail", f"{with_head[0].directory} and {with_head[1].directory} are two "
            "trails, each with its own end", "verify them one by one")
    places = with_head[0] if with_head else Places(directories[-1])
    head, damage = None, f"there is no {places.head.name}"
    try:
        head = heads.read(places.head)
    except heads.Damaged as error:
        damage = f"{places.head.name} is damaged: {error}"
    except OSError as error:
        damage = f"{places.head.name} cannot be read: {error.strerror}"
    return Stored(tuple(sorted(closed)), places, head, damage)


def records(directory: Path) -> Iterator[Record]:
    """The records of a trail that are whole, in order; nothing is verified."""
    for line in stored([directory]).lines():
        try:
            yield decode(line.data)
        except ValueError:
            continue


def _lines(file: Path) -> Iterator[Line]:
    with file.open("rb") as source:
        number = 0
        while data := source.readline(MAX_LINE + 1):
            number += 1
            yield Line(file, number, data)
