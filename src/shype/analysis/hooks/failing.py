"""Which code deals with an error: what it does is taken for cleaning up, not for an effect."""

from __future__ import annotations

import re
from dataclasses import replace

from shype.analysis.hooks.states import State
from shype.analysis.hooks.syntax import Do, Expr, Goto, Leave, Return, Stmt

#: Names of variables that hold an error number.
ERRORS = re.compile(r"(?:rc|ret|err|error|res|rv|status|result)\d?")


def result(target: Expr, value: Expr, state: State) -> State:
    """The state after ``target = value``, which may say that the operation fails."""
    named = target.kind == "name" and ERRORS.fullmatch(target.text) is not None
    if not named and not re.fullmatch(r"(?:->|\.)(?:status|rc)", target.text):
        return state
    return replace(state, failing=value.line if _is_failure(value) else 0, success=None)


def _is_failure(value: Expr) -> bool:
    return value.kind == "errno" or (
        value.kind == "name" and re.fullmatch(r"GNTST_(?!okay)\w+", value.text) is not None)


def sets_error(block: tuple[Stmt, ...]) -> bool:
    """Whether the block ends in an error: ``rc = -E...``, or returns one."""
    for stmt in block:
        if isinstance(stmt, Return) and stmt.value is not None and stmt.value.kind == "errno":
            return True
        if not isinstance(stmt, Do):
            continue
        expr = stmt.expr
        if expr.kind == "assign" and len(expr.parts) == 2 and _is_failure(expr.parts[1]):
            return True
        if expr.kind == "call" and expr.text == "domain_crash":
            return True
    return False


def leaves(block: tuple[Stmt, ...]) -> bool:
    return any(isinstance(stmt, (Return, Goto, Leave)) for stmt in block)


def is_error(condition: Expr) -> bool:
    """Whether a condition asks for an error number."""
    return any(
        (part.kind == "name" and ERRORS.fullmatch(part.text) is not None)
        or (part.kind == "call" and part.text.startswith(("xsm_", "IS_ERR")))
        for part in condition.walk()
    )
