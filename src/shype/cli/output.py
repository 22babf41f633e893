"""Rendering: tables and colour on a terminal, plain aligned text in a pipe, JSON on demand.

`rich` is used on a terminal when it is installed; on an enforcing host, where
only the standard library is, the plain form is all there is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

#: colour of a word when it stands alone in a cell
_STYLE = {
    "permitted": "green", "denied": "red", "ok": "green", "as expected": "green",
    "error": "bold red", "warning": "yellow", "UNEXPECTED": "bold red", "running": "green",
    "paused": "yellow",
}

#: The verdicts of programs (JSON), as they are told to people.
_SAID = {"permit": "permitted", "deny": "denied"}


def said(verdict: str) -> str:
    """A verdict for people: ``permitted`` and ``denied`` in all output that is not JSON."""
    return _SAID.get(verdict, verdict)


def print_json(value: object) -> None:
    """One JSON document on standard output (sorted keys, indented)."""
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def on_terminal() -> bool:
    """Whether standard output is a terminal and rich is there to use it."""
    return sys.stdout.isatty() and find_spec("rich") is not None


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table. In a pipe: aligned columns, two blanks between, header in the first line."""
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(title=title or None, title_justify="left", header_style="bold")
        for column in columns:
            grid.add_column(column, overflow="fold")
        for row in rows:
            grid.add_row(*(Text(cell, style=_STYLE.get(cell, "")) for cell in row))
        Console().print(grid)
        return
    if title:
        print(title)
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def note(message: str) -> None:
    """Progress or a remark: on standard error, so that standard output stays data."""
    print(message, file=sys.stderr, flush=True)


def stage(name: str, what: str, seconds: float | None) -> None:
    """A stage of the lab's build: what happens in it, or (with ``seconds``) that it is done."""
    after = "" if seconds is None else f" ({seconds:.0f} s)"
    note(f"lab: {name}: {what}{after}")


@contextmanager
def progress(message: str) -> Iterator[None]:
    """Show that something longer than 2 s is going on (spinner on a terminal, a line otherwise)."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        from rich.console import Console

        with Console(stderr=True).status(message):
            yield
        return
    note(message)
    yield
