"""Where the lab keeps its things: everything in one directory of the user's cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shype.base.errors import BadInput

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


def home() -> Path:
    """The lab's cache directory: ``$XDG_CACHE_HOME/shype/lab`` or ``~/.cache/shype/lab``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "shype" / "lab"


def runs() -> Path:
    """One directory per lab that runs.

    In the cache and not in XDG_RUNTIME_DIR, because disk overlays live here
    too and the latter is memory.
    """
    return home() / "run"


def snapshots() -> Path:
    """Machine states just after boot, made and used by ``up``; safe to delete."""
    return home() / "snapshots"


def states() -> Path:
    """Machine states saved by name (`shype.lab.host.Lab.save`)."""
    return home() / "states"


def checked_name(name: str) -> str:
    """``name`` if it can name a lab or a saved state. Raises BadInput (``lab.bad-name``)."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            "lab.bad-name", f"{name!r} cannot name a lab",
            "use at most 40 lower-case letters, digits, '-' and '.'",
        )
    return name
