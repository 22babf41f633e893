"""A durable table in the agent's state directory: one JSON file of rows by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.lock import LaunchLock, unwritable

_FORMAT = 1


class _Dataclass(Protocol):
    """What `dataclasses.asdict` takes."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Row = TypeVar("Row", bound=_Dataclass)


def plain(row: type[Row]) -> Callable[[str, object], Row]:
    """Makes a row whose fields are all `int` or `str`, and that needs no further check."""
    kinds = {one.name: {"int": int, "str": str}[str(one.type)] for one in fields(row)}

    def made(key: str, item: object) -> Row:
        if not isinstance(item, dict) or item.keys() != kinds.keys():
            raise TypeError("entry")
        if not all(type(item[name]) is kind for name, kind in kinds.items()):
            raise TypeError("entry")
        return row(**item)

    return made


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """The file ``path``: ``{"format": 1, name: {...}}`` with the rows, dataclasses, under ``name``.

    ``row`` makes one of its key and its JSON, and raises ValueError or TypeError if it is none.
    ``limit`` is far more than the file ever takes, bytes; ``corrupt`` makes the error for a file
    that is no such table.
    """

    path: Path
    name: str
    row: Callable[[str, object], Row]
    limit: int
    corrupt: Callable[[Path], Unavailable]

    def read(self) -> dict[str, Row]:
        """All rows; none if there is no file. Raises what ``corrupt`` makes."""
        try:
            return self._parse(json.loads(read_regular(self.path, self.limit)))
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise  # not damaged: the command has not been run as root
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise self.corrupt(self.path) from error

    def write(self, rows: Mapping[str, Row]) -> None:
        """Replace the file durably. Raises Unavailable (``state.unwritable``)."""
        found = {key: asdict(row) for key, row in rows.items()}
        try:
            write_atomic(
                self.path, canonical.dumps({"format": _FORMAT, self.name: found}), 0o600)
        except OSError as error:
            raise unwritable(self.path.parent, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Between reading and writing: two commands must not forget each other's rows."""
        with LaunchLock(self.path.parent, f"{self.path.stem}.lock").wait():
            yield

    def _parse(self, value: object) -> dict[str, Row]:
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise ValueError("format")
        rows = value.get(self.name)
        if not isinstance(rows, dict):
            raise TypeError(self.name)
        return {key: self.row(key, item) for key, item in rows.items()}
