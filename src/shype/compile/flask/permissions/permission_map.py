"""The Xen permission map: direction, mechanism and bandwidth of every FLASK permission.

The data are in ``map.toml``, whose head says what the fields mean.  A
permission without an entry is an error wherever a policy is analysed: it must
never count as "no flow".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from shype.base.errors import BadInput, Internal

#: A permission: class and name.
Permission = tuple[str, str]
#: A Xen release, major and minor number.
Version = tuple[int, int]


class Bandwidth(Enum):
    """How much one permission lets through; ``weight`` is what SETools knows it by (1 to 10)."""

    BULK = "bulk"
    RECORD = "record"
    SIGNAL = "signal"
    TRACE = "trace"

    @property
    def weight(self) -> int:
        """10 for the most, 1 for what the operation is not meant for."""
        return {"bulk": 10, "record": 7, "signal": 4, "trace": 1}[self.value]

    @property
    def meaning(self) -> str:
        """One line for tables."""
        return {
            "bulk": "any number of bytes, by one call or through what one call sets up",
            "record": "a structure of bounded size per call: registers, a configuration, a counter",
            "signal": "one or a few bits per call, which the other side is told of or can see",
            "trace": "nothing that the operation is for: that something exists, is used or fails",
        }[self.value]


class Mechanism(Enum):
    """By what information flows."""

    EVENT = "event"
    GRANT = "grant"
    ARGO = "argo"
    MEMORY = "memory"
    DEVICE = "device"
    RELABEL = "relabel"
    CONTROL = "control"
    INTROSPECTION = "introspection"
    CONSOLE = "console"
    HYPERVISOR = "hypervisor"
    POLICY = "policy"

    @property
    def meaning(self) -> str:
        """One line for tables."""
        return {
            "event": "event channels",
            "grant": "pages that their owner granted",
            "argo": "Argo messages",
            "memory": "a domain's memory and page tables, without a grant",
            "device": "devices, interrupts, ports and memory of devices",
            "relabel": "a domain that keeps its memory under another label",
            "control": "what a manager sets and reads of a domain",
            "introspection": "debuggers, monitors and profilers",
            "console": "the hypervisor's console",
            "hypervisor": "state of the host and the hypervisor",
            "policy": "the security server's policy and answers",
        }[self.value]


@dataclass(frozen=True, slots=True)
class Entry:
    """One permission in the releases from ``since`` to ``until`` (None: from the first, still).

    ``read``: how much flows from object to subject, ``write``: from subject to
    object; None: nothing.  ``source`` is the file of the Xen tree that it was read from.
    ``lasts``: what it sets up goes on without a further check.
    """

    cls: str
    permission: str
    read: Bandwidth | None
    write: Bandwidth | None
    mechanism: Mechanism
    why: str
    source: str
    since: Version | None = None
    until: Version | None = None
    lasts: bool = False

    @property
    def direction(self) -> str:
        """``read``, ``write``, ``both`` or ``none``."""
        if self.read and self.write:
            return "both"
        return "read" if self.read else "write" if self.write else "none"

    @property
    def weight(self) -> int:
        """The wider direction's weight, 0 without any."""
        return max((b.weight for b in (self.read, self.write) if b), default=0)

    def holds(self, version: Version) -> bool:
        """Whether it is about this release."""
        return (self.since is None or self.since <= version) and (
            self.until is None or version <= self.until
        )

    def to_json(self) -> dict[str, object]:
        """Shape of an entry in ``--json``."""
        return {
            "class": self.cls, "permission": self.permission, "direction": self.direction,
            "read": self.read.value if self.read else None,
            "write": self.write.value if self.write else None,
            "weight": self.weight, "mechanism": self.mechanism.value,
            "why": self.why, "source": self.source,
            "lasts": self.lasts,
            "since": _spelled(self.since), "until": _spelled(self.until),
        }


class PermissionMap:
    """The entries of one release, or of all that overlap nowhere."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Mapping[Permission, Entry] = {
            (entry.cls, entry.permission): entry for entry in entries
        }

    def require(self, permissions: Iterable[Permission], whose: str) -> None:
        """Raise `BadInput` (``permission-map.unknown``) that names all which have no entry."""
        missing = sorted({f"{cls}.{name}" for cls, name in permissions
                          if (cls, name) not in self.entries})
        if missing:
            raise BadInput(
                "permission-map.unknown",
                f"{whose} has permissions that the permission map does not know, so what they "
                f"let flow is not known: {', '.join(missing)}",
                "choose the release with --xen, or describe them in a file of the same form as "
                "shype's (`shype permission-map --help`) and give it with --map",
            )


def everything() -> tuple[Entry, ...]:
    """All entries of all releases, in the order of the file."""
    return _shipped()


def load(version: Version, more: Iterable[Entry] = ()) -> PermissionMap:
    """The map of one release, and ``more`` entries, which win over shype's own."""
    return PermissionMap(entry for entry in (*_shipped(), *more) if entry.holds(version))


@cache
def _shipped() -> tuple[Entry, ...]:
    file = resources.files("shype.compile.flask.permissions") / "map.toml"
    try:
        return parse(file.read_text(encoding="utf-8"), file.name)
    except BadInput as error:
        raise Internal("permission-map.broken", error.message) from error


def read(path: Path) -> tuple[Entry, ...]:
    """The map in a file. Raises `BadInput` (``permission-map.invalid``)."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise _invalid(str(path), f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _invalid(str(path), "it is no text") from error


def parse(text: str, name: str) -> tuple[Entry, ...]:
    """Read a map. Raises `BadInput` (``permission-map.invalid``) with the place."""
    try:
        classes = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(name, str(error)) from error
    entries: list[Entry] = []
    for cls, permissions in classes.items():
        if not isinstance(permissions, dict):
            raise _invalid(name, f"{cls} is not a class with permissions")
        for permission, values in permissions.items():
            several = values if isinstance(values, list) else [values]
            found = [_entry(cls, permission, value, name) for value in several]
            _apart(found, name)
            entries += found
    return tuple(entries)


_FIELDS = {"read", "write", "by", "why", "source", "since", "until", "lasts"}


def _entry(cls: str, permission: str, value: Any, name: str) -> Entry:
    where = f"{cls}.{permission}"
    if not isinstance(value, dict) or set(value) - _FIELDS:
        raise _invalid(name, f"{where} is no table of {', '.join(sorted(_FIELDS))}")
    why, source = (str(value.get(key, "")).strip() for key in ("why", "source"))
    if not why or not source.startswith("xen/"):
        raise _invalid(name, f"{where} has no reason (why), or no source in the Xen tree (xen/...)")
    try:
        read, write = (
            Bandwidth(value[key]) if key in value else None for key in ("read", "write")
        )
        mechanism = Mechanism(value.get("by"))
        since, until = (_version(value.get(key)) for key in ("since", "until"))
    except ValueError as error:
        raise _invalid(name, f"{where}: {error}") from error
    lasts = value.get("lasts") is True
    return Entry(cls, permission, read, write, mechanism, why, source, since, until, lasts)


def _apart(entries: list[Entry], name: str) -> None:
    """Two meanings of one permission must be of different releases."""
    for i, one in enumerate(entries):
        for other in entries[i + 1:]:
            ends = [e.until for e in (one, other) if e.until is not None]
            starts = [e.since for e in (one, other) if e.since is not None]
            if not ends or not starts or max(starts) <= min(ends):
                raise _invalid(name, f"{one.cls}.{one.permission} has two meanings in one release")


def _version(value: object) -> Version | None:
    if value is None:
        return None
    return version(str(value))


def version(text: str) -> Version:
    """``4.17`` or ``xen-4.17``. Raises ValueError."""
    match = re.fullmatch(r"(?:xen-)?([0-9]+)\.([0-9]+)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a Xen release such as 4.17")
    return int(match[1]), int(match[2])


def _spelled(value: Version | None) -> str | None:
    return None if value is None else "{}.{}".format(*value)


def _invalid(name: str, problem: str) -> BadInput:
    return BadInput(
        "permission-map.invalid", f"{name}: {problem}",
        "docs/reference/xen-permission-map.md describes the form",
    )
