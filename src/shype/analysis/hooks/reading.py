"""Whether an answer that was put into a variable is looked at afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from shype.analysis.hooks.permissions import reached
from shype.analysis.hooks.syntax import Expr, Function


def is_read(function: Function, name: str, value: Expr) -> bool:
    """Whether variable ``name`` is read after ``value`` was put into it, before it is replaced.

    In order of the text, which is right but for jumps backwards; a loop's own condition is not
    looked at again.
    """
    seen = False
    for expr in reached(function.body, ""):
        if expr is value:  # the variable's own declaration
            seen = True
            continue
        for word, part in _accesses(expr, name):
            if seen:
                return word == "read"
            if part is value:
                seen = True
    return False


def _accesses(expr: Expr, name: str) -> Iterator[tuple[str, Expr]]:
    """Reads and writes of ``name`` in the order of evaluation; for a write, what is written."""
    if expr.kind == "assign" and expr.parts and expr.parts[0].kind == "name" \
            and expr.parts[0].text == name:
        if len(expr.parts) == 2:
            yield from _accesses(expr.parts[1], name)
        if expr.text == "=":
            yield "write", expr.parts[-1]
        else:
            yield "read", expr
        return
    if expr.kind == "name" and expr.text == name:
        yield "read", expr
    for part in expr.parts:
        yield from _accesses(part, name)
