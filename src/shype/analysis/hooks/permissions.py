"""Which FLASK permission a hook asks for: read from the functions in xsm/flask/hooks.c."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from shype.analysis.hooks.operations import family_of
from shype.analysis.hooks.syntax import (
    Declare,
    Do,
    Either,
    Expr,
    If,
    Leave,
    Loop,
    Return,
    Stmt,
    Switch,
)
from shype.analysis.hooks.tree import Tree

_FILE = Path("xsm/flask/hooks.c")
_ENTRY = re.compile(r"\.(\w+)\s*=\s*(flask_\w+)")
_PERMISSION = re.compile(r"([A-Z]+[0-9]?)__([A-Z0-9_]+)")
#: FLASK refuses what it has no permission for, unless the policy says otherwise.
UNKNOWN = "(unknown: refused)"
_DEPTH = 5


class Permissions:
    """From hook and operation to permissions, for one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, hook: str, operation: str, arguments: tuple[Expr, ...] = ()) -> tuple[str, ...]:
        """``class.permission`` that ``hook`` asks for in ``operation``; () if it asks nothing.

        Of the arguments only a constant counts: it selects where the hook looks at it.
        """
        constants = [each.text for each in arguments
                     if each.kind == "name" and re.fullmatch(r"[A-Z]+[A-Z0-9]*_\w+", each.text)
                     and not each.text.startswith("XSM_")]
        key = (hook, constants[-1] if constants else operation)
        if key not in self._known:
            function = self._implementations.get(hook, f"flask_{hook}")
            found = set(self._collect(function, key[1], _DEPTH))
            self._known[key] = tuple(sorted(found - {UNKNOWN} or found))
        return self._known[key]

    @staticmethod
    def named(arguments: tuple[Expr, ...]) -> tuple[str, ...]:
        """Permissions that a direct query of the AVC names in its arguments."""
        return tuple(sorted({
            shown for each in arguments for name in each.names if (shown := _shown(name))
        }))

    @cached_property
    def _implementations(self) -> dict[str, str]:
        path = self._tree.root / _FILE
        text = path.read_text(errors="replace") if path.is_file() else ""
        return {hook: function for hook, function in _ENTRY.findall(text)
                if f"flask_{hook}" != function or hook in self._tree.hooks}

    def _collect(self, name: str, operation: str, depth: int) -> Iterator[str]:
        found = [d for d in self._tree.definitions.get(name, ()) if d.file == _FILE]
        if not found or depth == 0:
            return
        for expr in reached(self._tree.function(found[0]).body, operation):
            for part in expr.walk():
                if part.kind == "name" and (shown := _shown(part.text)):
                    yield shown
                elif part.kind == "call" and part.text == "avc_unknown_permission":
                    yield UNKNOWN
                elif part.kind == "call":
                    yield from self._collect(part.text, operation, depth - 1)


def _shown(name: str) -> str:
    match = _PERMISSION.fullmatch(name)
    return f"{match[1].lower()}.{match[2].lower()}" if match else ""


def reached(block: tuple[Stmt, ...], operation: str) -> Iterator[Expr]:
    """The expressions that may be evaluated if every switch over operations sees ``operation``."""
    for stmt in block:
        if isinstance(stmt, Do):
            yield stmt.expr
        elif isinstance(stmt, Declare) and stmt.init is not None:
            yield stmt.init
        elif isinstance(stmt, If):
            yield stmt.condition
            yield from reached(stmt.then, operation)
            yield from reached(stmt.other, operation)
        elif isinstance(stmt, Loop):
            for part in (stmt.head, stmt.body, stmt.step):
                yield from reached(part, operation)
        elif isinstance(stmt, Either):
            for branch in stmt.branches:
                yield from reached(branch, operation)
        elif isinstance(stmt, Return) and stmt.value is not None:
            yield stmt.value
        elif isinstance(stmt, Switch):
            yield stmt.subject
            yield from reached(selected(stmt, operation), operation)


def selected(switch: Switch, operation: str) -> tuple[Stmt, ...]:
    """What runs in ``switch`` for ``operation``; all cases if they are about something else."""
    labels = [case.label for case in switch.cases]
    if operation in labels:
        start = labels.index(operation)
    elif any(label and family_of(label) == family_of(operation) for label in labels):
        if None not in labels:
            return ()
        start = labels.index(None)
    else:
        return tuple(stmt for case in switch.cases for stmt in case.body)
    body: list[Stmt] = []
    for case in switch.cases[start:]:
        body += case.body
        if any(isinstance(stmt, Return) or stmt == Leave("break") for stmt in case.body):
            break
    return tuple(body)
