"""Whether an answer that was put into a variable is looked at afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from shype.analysis.hooks.syntax import (
    Either,
    Expr,
    Function,
    If,
    Loop,
    Stmt,
    Switch,
    own_expressions,
)


def is_read(function: Function, name: str, value: Expr) -> bool:
    """Whether variable ``name`` is read after ``value`` was put into it, before it is replaced.

    Follows the ways through the code: what stands in the other branch of an if comes not after
    it. A label is taken for reached from above only.
    """
    return _after(function.body, name, value) == "read"


def _after(block: tuple[Stmt, ...], name: str, value: Expr) -> str | None:
    """What happens first to ``name`` after ``value`` inside ``block``.

    ``read``, ``write``, "" if nothing does; None if ``value`` is not in the block.
    """
    for number, stmt in enumerate(block):
        found = _inside(stmt, name, value)
        if found is not None:
            return found or _first(block[number + 1 :], name)
    return None


def _inside(stmt: Stmt, name: str, value: Expr) -> str | None:
    seen = False
    for expr in own_expressions(stmt):
        if expr is value:  # the variable's own declaration
            seen = True
            continue
        for word, part in _accesses(expr, name):
            if seen:
                return word
            seen = part is value
    if seen:
        return _first(stmt.then, name) if isinstance(stmt, If) else ""
    for block in _blocks(stmt):
        found = _after(block, name, value)
        if found is not None:
            if not found and isinstance(stmt, Loop):  # the next round
                return _first((*stmt.head, *stmt.body), name)
            return found
    if isinstance(stmt, Switch):
        for number, case in enumerate(stmt.cases):
            found = _after(case.body, name, value)
            if found is not None:
                return found or _first(
                    tuple(s for each in stmt.cases[number + 1 :] for s in each.body), name
                )
    return None


def _first(block: tuple[Stmt, ...], name: str) -> str:
    """The first access to ``name``; a write on one of several ways does not count."""
    for stmt in block:
        for expr in own_expressions(stmt):
            for word, _ in _accesses(expr, name):
                return word
        blocks = list(_blocks(stmt))
        if isinstance(stmt, Switch):
            blocks = [case.body for case in stmt.cases]
        words = [_first(each, name) for each in blocks]
        if "read" in words:
            return "read"
        if isinstance(stmt, If) and words == ["write", "write"]:
            return "write"
    return ""


def _blocks(stmt: Stmt) -> Iterator[tuple[Stmt, ...]]:
    if isinstance(stmt, If):
        yield from (stmt.then, stmt.other)
    elif isinstance(stmt, Loop):
        yield (*stmt.head, *stmt.body, *stmt.step)
    elif isinstance(stmt, Either):
        yield from stmt.branches


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
