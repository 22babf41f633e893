"""What counts as an effect of an operation, and which calls have none.

An effect is: memory that outlives the call is written, something is copied out to the caller,
or a function is called that does so. All lists are data, with reasons: effects.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

from shype.analysis.hooks.definitions import Definition
from shype.analysis.hooks.syntax import (
    Declare,
    Either,
    Expr,
    If,
    Loop,
    Stmt,
    Switch,
    own_expressions,
)
from shype.analysis.hooks.tree import Tree

_DEPTH = 3
#: In the result of `Effects.written`: memory that no parameter leads to.
ELSEWHERE = -1


@cache
def _data() -> dict[str, object]:
    value = json.loads((resources.files(__package__) / "effects.json").read_text())
    assert isinstance(value, dict)
    return value


@cache
def _pattern(key: str) -> re.Pattern[str]:
    value = _data()[key]
    if isinstance(value, str):
        return re.compile(value)
    assert isinstance(value, list)
    return re.compile("|".join(f"(?:{pattern})" for pattern, _reason in value))


def is_output(name: str) -> bool:
    """Whether a call of ``name`` copies something to the caller."""
    return _pattern("outputs").fullmatch(name) is not None


def is_neutral(name: str) -> bool:
    """Whether a call of ``name`` is no effect in itself."""
    return _pattern("neutral").fullmatch(name) is not None


def lasting(name: str) -> str:
    """Why what ``name`` (a function, or an operation) does stays in use; empty if it does not."""
    return _reasons("lasting").get(name, "")


def is_preparing(name: str) -> bool:
    """Whether ``name`` may run before the hook: what it does is undone when the hook refuses."""
    return name in _reasons("preparing")


@cache
def _reasons(key: str) -> dict[str, str]:
    value = _data()[key]
    assert isinstance(value, dict)
    return value


class Locals:
    """Which memory is the function's own: what it declares, and pointers to that.

    ``lent``: parameters that the caller lets point to memory of its own.
    """

    def __init__(self, parameters: tuple[str, ...], lent: frozenset[str] = frozenset()) -> None:
        self._values: set[str] = set()
        self._pointers: set[str] = set(lent)
        self._known: set[str] = set(parameters)
        self.parameters = parameters

    def declare(self, stmt: Declare) -> None:
        """A local variable comes into being."""
        self._known.add(stmt.name)
        self._pointers.discard(stmt.name)
        if not stmt.pointer:
            self._values.add(stmt.name)
        if stmt.init is not None and self.lends(stmt.init):
            self._pointers.add(stmt.name)

    def assign(self, target: Expr, value: Expr) -> None:
        """A local pointer gets a new target."""
        if target.kind == "name" and target.text in self._known:
            if self.lends(value):
                self._pointers.add(target.text)
            else:
                self._pointers.discard(target.text)

    def lends(self, value: Expr) -> bool:
        """Whether ``value`` points to memory of this function (or of its caller's, lent)."""
        if value.kind == "address" and value.parts:
            return self.owner(value.parts[0]) is None
        if value.kind == "name":
            return value.text in self._pointers
        return value.kind in ("number", "errno")

    def owner(self, target: Expr) -> str | None:
        """None if storing to ``target`` stays inside; else the name that leads outside."""
        operators: list[str] = []
        while target.kind == "field" and target.parts:
            operators.append(target.text)
            target = target.parts[0]
        name = target.text or "?"
        if target.kind != "name" or name not in self._known:
            return name
        crossings = [each for each in operators if each == "*" or each.startswith("->")]
        first = operators[-1] if operators else ""
        if first == "*" or first.startswith("->"):
            return name if len(crossings) > 1 or name not in self._pointers else None
        if crossings:
            return name
        if first == "[":
            return None if name in self._values or name in self._pointers else name
        return None


class Effects:
    """Which functions write where, for one tree; looks a few calls deep."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[tuple[Definition, int], frozenset[int]] = {}

    def written(self, definition: Definition, depth: int = _DEPTH) -> frozenset[int]:
        """Numbers of the parameters through which it writes, and ELSEWHERE."""
        key = (definition, depth)
        if key not in self._known:
            self._known[key] = frozenset()  # recursion: nothing new
            function = self._tree.function(definition)
            local = Locals(function.parameters)
            self._known[key] = frozenset(self._block(definition, function.body, local, depth))
        return self._known[key]

    def of_call(self, definition: Definition, arguments: tuple[Expr, ...], local: Locals) -> bool:
        """Whether this call writes anything but the caller's own variables."""
        for number in self.written(definition):
            if number == ELSEWHERE or number >= len(arguments):
                return True
            if not local.lends(arguments[number]):
                return True
        return False

    def _block(
        self, definition: Definition, block: tuple[Stmt, ...], local: Locals, depth: int
    ) -> Iterator[int]:
        for stmt in block:
            if isinstance(stmt, Declare):
                local.declare(stmt)
            for expr in own_expressions(stmt):
                yield from self._expr(definition, expr, local, depth)
            for inner in _inner(stmt):
                yield from self._block(definition, inner, local, depth)

    def _expr(self, definition: Definition, expr: Expr, local: Locals, depth: int) -> Iterator[int]:
        for part in expr.walk():
            if part.kind == "assign" and part.parts:
                owner = local.owner(part.parts[0])
                if owner is not None:
                    yield self._number(owner, local)
                if len(part.parts) == 2:
                    local.assign(part.parts[0], part.parts[1])
            elif part.kind == "call":
                if not part.text or is_output(part.text):
                    yield ELSEWHERE
                elif depth > 1 and not is_neutral(part.text):
                    callee = self._tree.resolve(part.text, definition.file)
                    if callee is None:
                        continue
                    for number in self.written(callee, depth - 1):
                        if number == ELSEWHERE or number >= len(part.parts):
                            yield ELSEWHERE
                        elif not local.lends(part.parts[number]):
                            names = part.parts[number].names & set(local.parameters)
                            yield self._number(min(names), local) if names else ELSEWHERE

    @staticmethod
    def _number(owner: str, local: Locals) -> int:
        return local.parameters.index(owner) if owner in local.parameters else ELSEWHERE


def _inner(stmt: Stmt) -> Iterator[tuple[Stmt, ...]]:
    if isinstance(stmt, If):
        yield from (stmt.then, stmt.other)
    elif isinstance(stmt, Loop):
        yield from (stmt.head, stmt.body, stmt.step)
    elif isinstance(stmt, Either):
        yield from stmt.branches
    elif isinstance(stmt, Switch):
        yield from (case.body for case in stmt.cases)
