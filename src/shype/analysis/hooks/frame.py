"""What the walk knows of the function that it is in."""

from __future__ import annotations

from dataclasses import dataclass, field

from shype.analysis.hooks.effects import Locals
from shype.analysis.hooks.states import Effect, State
from shype.analysis.hooks.syntax import Expr, Function


@dataclass(slots=True)
class Frame:
    """The function that is being walked."""

    function: Function
    local: Locals
    effects: list[Effect] = field(default_factory=list)
    ends: list[State] = field(default_factory=list)
    jumps: dict[str, list[tuple[State, bool]]] = field(default_factory=dict)
    breaks: list[list[State]] = field(default_factory=list)


def shown(expr: Expr) -> str:
    """A target of a store, about as written."""
    if expr.kind == "field" and expr.parts:
        base = shown(expr.parts[0])
        if expr.text == "*":
            return f"*{base}"
        return f"{base}[]" if expr.text == "[" else f"{base}{expr.text}"
    return expr.text + ("()" if expr.kind == "call" else "")
