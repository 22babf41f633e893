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
    Function,
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
#: Between the permission that is asked for and the one that the code names.
MISTAKEN = "written as"
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
    def named(function: Function, query: Expr) -> tuple[str, ...]:
        """Permissions that a direct query of the AVC names in its arguments.

        If these are variables: all that the function names.
        """
        found = {_shown(name) for part in query.parts for name in part.names}
        if found <= {""}:
            found = {_shown(name) for expr in reached(function.body, "") for name in expr.names}
        return tuple(sorted(found - {""}))

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
            mistaken = {name for part in expr.walk() for name in self._foreign(part)}
            for part in expr.walk():
                if part.kind == "name" and (shown := _shown(part.text)):
                    if part.text not in mistaken:
                        yield shown
                elif part.kind == "call" and part.text == "avc_unknown_permission":
                    yield UNKNOWN
                elif part.kind == "call":
                    yield from self._collect(part.text, operation, depth - 1)
                    yield from self._mistaken(part)


    @staticmethod
    def _foreign(call: Expr) -> tuple[str, ...]:
        """Constants of another class than the one that the call names."""
        names = frozenset[str]().union(*(part.names for part in call.parts)) \
            if call.kind == "call" else frozenset()
        classes = {name.removeprefix("SECCLASS_").lower() for name in names
                   if name.startswith("SECCLASS_")}
        if len(classes) != 1:
            return ()
        return tuple(sorted(name for name in names
                            if _shown(name) and _shown(name).split(".")[0] not in classes))

    def _mistaken(self, call: Expr) -> Iterator[str]:
        """What is really asked for where the constant belongs to another class: the same bit."""
        for name in self._foreign(call):
            asked = next(part.text for part in call.walk() if part.text.startswith("SECCLASS_"))
            asked = asked.removeprefix("SECCLASS_").lower()
            home, permission = _shown(name).split(".")
            if permission in (listed := self._vectors.get(home, ())):
                same = self._vectors.get(asked, ())[listed.index(permission) :]
                yield f"{asked}.{same[0] if same else '?'} {MISTAKEN} {home}.{permission}"

    @cached_property
    def _vectors(self) -> dict[str, tuple[str, ...]]:
        """The permissions of each class, in the order of their bits."""
        path = self._tree.root / "xsm/flask/policy/access_vectors"
        text = re.sub(r"#[^\n]*", "", path.read_text()) if path.is_file() else ""
        return {name: tuple(body.split())
                for name, body in re.findall(r"class\s+(\w+)\s*\{([^}]*)\}", text)}


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
