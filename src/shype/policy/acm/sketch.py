"""A shype policy that is about to be written: new names, and the old ones for its comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a section. ``note`` says where it comes from; ``was`` is a renamed entry's key.

    ``coalitions`` and ``members`` are empty for entries that cannot have them.  ``closed`` is
    for a coalition that opens no mechanism, ``everything`` for a label of all coalitions.
    """

    name: str
    note: str
    coalitions: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    was: str | None = None
    closed: bool = False
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    """Everything that the writer needs.

    ``mapping``: for each kind of name, old to new.  ``dropped``: CHWALL types
    in no conflict set, which never decided anything.
    """

    name: str
    name_note: str
    version: str
    replaces: str | None
    was: str | None
    coalitions: tuple[Line, ...]
    walls: tuple[Line, ...]
    labels: tuple[Line, ...]
    resource_labels: tuple[Line, ...]
    dom0: str
    mapping: Mapping[str, Mapping[str, str]]
    dropped: tuple[str, ...]
