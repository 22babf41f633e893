"""What the analysis keeps of a C function: statements, expressions, lines.

Small on purpose: no types, no values but names and error numbers. Expressions are one
class, because the analysis asks the same few questions of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression.

    ``kind`` is one of:
    ``name``    text = identifier
    ``number``  text = literal
    ``errno``   text = name of the error, from ``-ENAME``
    ``call``    text = callee ("" for a call through a pointer), parts = arguments
    ``assign``  text = operator, parts = (target, value); also ``++`` and ``--``
    ``field``   text = ``.name``, ``->name``, ``[`` or ``*``, parts = (base, index if any)
    ``address`` parts = (operand,)
    ``logic``   text = ``&&``, ``||``, ``!`` or ``?:``
    ``compare`` text = ``==`` or ``!=``, parts = (left, right)
    ``other``   any other operator; parts are evaluated from left to right
    """

    kind: str
    text: str
    parts: tuple[Expr, ...]
    line: int

    def walk(self) -> Iterator[Expr]:
        """This expression and all inside it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def names(self) -> frozenset[str]:
        """All identifiers inside, callees excluded."""
        return frozenset(part.text for part in self.walk() if part.kind == "name")


@dataclass(frozen=True, slots=True)
class Do:
    """An expression as a statement."""

    expr: Expr


@dataclass(frozen=True, slots=True)
class Declare:
    """A local variable."""

    name: str
    pointer: bool
    init: Expr | None


@dataclass(frozen=True, slots=True)
class If:
    """``text`` is the condition as written, blanks squeezed."""

    condition: Expr
    text: str
    then: tuple[Stmt, ...]
    other: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One label and what follows it, up to the next label. ``label`` None: ``default``."""

    label: str | None
    body: tuple[Stmt, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch; control falls from one case into the next as in C."""

    subject: Expr
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """Any loop: ``head`` is evaluated, then ``body``, then ``step``."""

    head: tuple[Stmt, ...]
    body: tuple[Stmt, ...]
    step: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Alternatives of the preprocessor (``#if`` ... ``#else``): only one of them is compiled."""

    branches: tuple[tuple[Stmt, ...], ...]


@dataclass(frozen=True, slots=True)
class Return:
    """Leaves the function."""

    value: Expr | None
    line: int


@dataclass(frozen=True, slots=True)
class Goto:
    """Jumps to a label of the same function."""

    label: str


@dataclass(frozen=True, slots=True)
class Label:
    """The target of jumps."""

    name: str


@dataclass(frozen=True, slots=True)
class Leave:
    """``break`` or ``continue``."""

    word: str


Stmt: TypeAlias = (
    Do | Declare | If | Switch | Loop | Either | Return | Goto | Label | Leave
)


def own_expressions(stmt: Stmt) -> Iterator[Expr]:
    """What ``stmt`` evaluates itself, apart from the statements inside it."""
    if isinstance(stmt, Do):
        yield stmt.expr
    elif isinstance(stmt, Declare) and stmt.init is not None:
        yield stmt.init
    elif isinstance(stmt, If):
        yield stmt.condition
    elif isinstance(stmt, Switch):
        yield stmt.subject
    elif isinstance(stmt, Return) and stmt.value is not None:
        yield stmt.value


@dataclass(frozen=True, slots=True)
class Function:
    """A function definition (or a macro that calls hooks). ``file`` is relative to ``xen/``."""

    name: str
    file: Path
    line: int
    parameters: tuple[str, ...]
    body: tuple[Stmt, ...]
