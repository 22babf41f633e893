"""Asks before what cannot be undone."""

from __future__ import annotations

import argparse
import sys

from shype.base.errors import BadInput


def confirmed(args: argparse.Namespace, question: str, nobody: BadInput) -> bool:
    """Whether the user says yes. Raises ``nobody`` if there is none to be asked."""
    if args.json or not sys.stdin.isatty():
        raise nobody
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
