"""Conditions of a binary policy: boolean expressions in postfix order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

#: Most booleans over which an expression is decided by trying every setting.
EXHAUSTIVE = 16

_BINARY: Mapping[str, Callable[[bool, bool], bool]] = {
    "&&": lambda a, b: a and b,
    "||": lambda a, b: a or b,
    "^": lambda a, b: a != b,
    "!=": lambda a, b: a != b,
    "==": lambda a, b: a == b,
}
_OPERATORS = frozenset(_BINARY) | {"!"}


class Undecided(Exception):
    """An expression is no conjunction and has too many booleans to try every setting."""


def variables(tokens: Iterable[str]) -> frozenset[str]:
    """Booleans in an expression."""
    return frozenset(tokens) - _OPERATORS


def evaluate(tokens: Sequence[str], setting: Mapping[str, bool]) -> bool:
    """Value under ``setting``. Raises ValueError for a malformed expression, KeyError."""
    stack: list[bool] = []
    try:
        for token in tokens:
            if token == "!":
                stack.append(not stack.pop())
            elif token in _BINARY:
                right = stack.pop()
                stack.append(_BINARY[token](stack.pop(), right))
            else:
                stack.append(setting[token])
    except IndexError as error:
        raise ValueError("malformed condition") from error
    if len(stack) != 1:
        raise ValueError("malformed condition")
    return stack[0]


def conjunction(tokens: Sequence[str]) -> dict[str, bool] | None:
    """The literals of an expression that is a conjunction of them, else None."""
    stack: list[dict[str, bool]] = []
    for token in tokens:
        if token == "&&" and len(stack) >= 2:
            right, left = stack.pop(), stack.pop()
            if len(right) > len(left):
                left, right = right, left
            for name, value in right.items():
                if left.setdefault(name, value) is not value:
                    return None
            stack.append(left)
        elif token == "!" and stack and len(stack[-1]) == 1:
            ((name, value),) = stack.pop().items()
            stack.append({name: not value})
        elif token in _OPERATORS:
            return None
        else:
            stack.append({token: True})
    return stack[0] if len(stack) == 1 else None


def equivalent(
    either: Sequence[Sequence[str]], cubes: Sequence[Mapping[str, bool]]
) -> bool:
    """Whether "one of ``either`` holds" equals "all literals of one of ``cubes`` hold".

    For every setting, that is; none of none is never.  Raises `Undecided` if that cannot be
    found out, ValueError for malformed expressions.
    """
    if len(either) == len(cubes):
        literals = [conjunction(tokens) for tokens in either]
        left = [dict(cube) for cube in cubes]
        for found in literals:
            if found in left:
                left.remove(found)
        if not left:
            return True
        if len(cubes) == 1 and literals[0] is not None:
            return False
    names = sorted(
        frozenset[str]().union(*cubes, *(variables(tokens) for tokens in either))
    )
    if len(names) > EXHAUSTIVE:
        raise Undecided
    for values in product((False, True), repeat=len(names)):
        setting = dict(zip(names, values, strict=True))
        wanted = any(
            all(setting[name] is value for name, value in cube.items()) for cube in cubes
        )
        if any(evaluate(tokens, setting) for tokens in either) is not wanted:
            return False
    return True
