"""The sentences of decisions: names first, then the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shype.decision.decision import Holder

#: How many names a sentence lists before it says "and N more".
_LISTED = 4


def printable(text: str) -> str:
    """``text`` without line breaks or terminal control: names of VMs come from outside."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Sequence[str], none: str = "none") -> str:
    """``a``, ``a and b``, ``a, b and c``, or with many ``a, b, c, d and 7 more``."""
    if not names:
        return none
    if len(names) > _LISTED:
        return ", ".join(names[:_LISTED]) + f" and {len(names) - _LISTED} more"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def coalitions(names: Sequence[str]) -> str:
    """``the coalition a`` or ``the coalitions a and b``."""
    return ("the coalition " if len(names) == 1 else "the coalitions ") + listed(names)


def walls(names: Sequence[str]) -> str:
    """``the wall a`` or ``the walls a and b``."""
    return ("the wall " if len(names) == 1 else "the walls ") + listed(names)


def pair(a: str, b: str) -> str:
    """``a and b``, or ``two VMs labelled a``."""
    return f"two VMs labelled {a}" if a == b else f"{a} and {b}"


def holders(found: Iterable[Holder]) -> str:
    """Who holds what: ``VM a-db (domain 3, label bank-a-db) holds bank-a``."""
    each = [
        f"VM {printable(h.vm)} (domain {h.domid}, label {h.label}) holds {h.member}" for h in found
    ]
    return listed(each)
