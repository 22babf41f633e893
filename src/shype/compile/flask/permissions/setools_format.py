"""The map in the form that SETools reads (its own is ``setools/perm_map``).

SETools knows one direction and one weight per permission.  So a trace beside
something wider is left out, and a permission of two different widths gets the
greater one.  It has no idea of event channels: what one end sends reaches the
other through the channel's type, by `send` (domain to channel) and `bind`
(channel to domain), as any two flows do.
"""

from __future__ import annotations

from shype.compile.flask.permissions.permission_map import Bandwidth, Entry, PermissionMap
from shype.compile.flask.tables import Tables

_LETTERS = {"read": "r", "write": "w", "both": "b", "none": "n"}


def text(known: PermissionMap, tables: Tables) -> str:
    """Every class and permission of ``tables``. Raises `BadInput` (``permission-map.unknown``)."""
    known.require(
        [(cls, name) for cls, names in tables.classes.items() for name in names],
        f"the table of {tables.target}",
    )
    lines = [
        f"# Xen permission map for {tables.target}, by shype. Weights: "
        + ", ".join(f"{band.weight} {band.value}" for band in Bandwidth),
        str(len(tables.classes)),
    ]
    for cls, names in tables.classes.items():
        lines.append(f"\nclass {cls} {len(names)}")
        for name in names:
            letter, weight = mapped(known.entries[cls, name])
            lines.append(f"{name:>30} {letter} {weight:>10}")
    return "\n".join(lines) + "\n"


def mapped(entry: Entry) -> tuple[str, int]:
    """SETools' letter for the direction (r, w, b, n) and its weight; it has one for both ways.

    So a mere trace is left out beside a direction for which the permission is meant.
    """
    read, write = entry.read, entry.write
    if read and write and (read is Bandwidth.TRACE) != (write is Bandwidth.TRACE):
        return ("w", write.weight) if read is Bandwidth.TRACE else ("r", read.weight)
    return _LETTERS[entry.direction], max(entry.weight, 1)
