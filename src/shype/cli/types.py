"""Types shared by the command modules, those of arguments included."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import TypeAlias

#: What `ArgumentParser.add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def day(text: str) -> date:
    """An argument that is a day, YYYY-MM-DD. Raises ArgumentTypeError."""
    from shype.policy.grammar import as_date

    found = as_date(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day, written YYYY-MM-DD")
    return found


def path(text: str) -> Path:
    """An argument that is a path. Raises ArgumentTypeError for "", which a shell makes by mistake.

    As a `Path` it would be the present directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable not set?")
    return Path(text)


def seconds(text: str) -> float:
    """An argument that is a time of at most a day. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def count(text: str) -> int:
    """An argument that is a whole number from 1 to 86400. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 86400")
    return int(text)
