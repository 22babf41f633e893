"""What a constraint or condition allows: for sure, perhaps, or never.

Contexts have users, roles and levels besides types, and an analysis of types
does not know them. So an expression has two values: whether it *may* hold for
some of them, and whether it *must* hold for all.  Neither sees that two parts
of an expression depend on each other, so `may` can be too wide and `must` too
narrow, never the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from shype.compile.flask import conditions
from shype.compile.flask.constraints import Malformed
from shype.compile.flask.matrix import Names
from shype.compile.flask.reader import Access, Binary, Constraint, Token

_LEVELS = frozenset({"l1", "l2", "h1", "h2"})
_COMPARES = frozenset({"==", "!=", "dom", "domby", "incomp"})
#: Two sets of types, as bits: for which targets it may hold, for which it must.
Masks = tuple[int, int]


class Constraints:
    """Evaluates constraints for one source type and all target types at once."""

    def __init__(self, binary: Binary, names: Names) -> None:
        self._names = names
        self._every = (1 << len(names.types)) - 1
        self._users = frozenset(text.split()[1].rstrip(";") for text in binary.users)
        self._roles = frozenset(binary.roles) | {"object_r"}
        self._one_level = not binary.mls or (
            len(binary.sensitivities) == 1 and not binary.categories
        )
        self._known: dict[tuple[int, int], Masks] = {}
        self.of: dict[tuple[str, str], list[Constraint]] = {}
        for constraint in binary.constraints:
            for permission in constraint.permissions:
                self.of.setdefault((constraint.cls, permission), []).append(constraint)

    def masks(self, permission: tuple[str, str], source: int) -> Masks:
        """For which targets ``source`` may, and must, satisfy all constraints of a permission."""
        may = must = self._every
        for constraint in self.of.get(permission, ()):
            key = (id(constraint), source)
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = self._value(constraint.expression, source)
            may, must = may & found[0], must & found[1]
        return may, must

    def _value(self, expression: Sequence[Token], source: int) -> Masks:
        stack: list[Masks | Token] = []
        every = self._every
        try:
            for token in expression:
                if token == "not":
                    may, must = _pair(stack.pop())
                    stack.append((every & ~must, every & ~may))
                elif token in ("and", "or"):
                    right, left = _pair(stack.pop()), _pair(stack.pop())
                    stack.append(
                        (left[0] & right[0], left[1] & right[1]) if token == "and"
                        else (left[0] | right[0], left[1] | right[1])
                    )
                elif token in _COMPARES:
                    second, first = stack.pop(), stack.pop()
                    stack.append(self._compare(first, second, str(token), source))
                else:
                    stack.append(token)
        except IndexError as error:
            raise Malformed("a constraint lacks an operand") from error
        if len(stack) != 1:
            raise Malformed("a constraint has an operand too many")
        return _pair(stack[0])

    def _compare(
        self, first: Masks | Token, second: Masks | Token, operator: str, source: int
    ) -> Masks:
        if first in _LEVELS and second in _LEVELS:
            if self._one_level:
                return self._plain(operator in ("==", "dom", "domby"))
            return self._every, 0
        if not isinstance(first, str) or first[:1] not in ("t", "r", "u"):
            raise Malformed(f"{first} {operator} {second}")
        may, must = (
            self._types(first, second, source) if first[0] == "t" else self._who(first[0], second)
        )
        if operator == "!=":
            return self._every & ~must, self._every & ~may
        return (may, must) if operator == "==" else (self._every, 0)  # dom of roles: not known

    def _types(self, first: str, second: Masks | Token, source: int) -> Masks:
        if second in ("t1", "t2"):
            return 1 << source, 1 << source
        names = _names(second)
        mask = self._names.mask_of(names)
        return (mask, mask) if first == "t2" else self._plain(bool(mask >> source & 1))

    def _who(self, kind: str, second: Masks | Token) -> Masks:
        """Any user and any role is possible for any type: object_r's are, and whoever
        labels domains chooses."""
        every = self._users if kind == "u" else self._roles
        if isinstance(second, str):
            return self._every, (self._every if len(every) == 1 else 0)
        names = frozenset(_names(second))
        return (self._every if names & every else 0), (self._every if names >= every else 0)

    def _plain(self, value: bool) -> Masks:
        return (self._every, self._every) if value else (0, 0)


def _pair(value: Masks | Token) -> Masks:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int):
        return value[0], int(value[1])
    raise Malformed(f"{value!r} stands where a comparison must")


def _names(value: Masks | Token) -> tuple[str, ...]:
    if isinstance(value, tuple) and all(isinstance(name, str) for name in value):
        return tuple(str(name) for name in value)
    raise Malformed(f"{value!r} stands where a set must")


@dataclass(frozen=True, slots=True)
class Booleans:
    """Which conditional rules can be in force when the booleans in ``fixed`` have those values."""

    expressions: tuple[tuple[str, ...], ...]
    fixed: Mapping[str, bool]

    def masks(self) -> tuple[tuple[bool, bool], ...]:
        """Per expression: whether it can be true, and whether it can be false."""
        return tuple(self._values(expression) for expression in self.expressions)

    def _values(self, tokens: tuple[str, ...]) -> tuple[bool, bool]:
        literals = conditions.conjunction(tokens)
        if literals is not None:
            known = {name: self.fixed.get(name) for name in literals}
            true = all(known[name] in (None, value) for name, value in literals.items())
            return true, not all(known[name] is value for name, value in literals.items())
        free = sorted(conditions.variables(tokens) - set(self.fixed))
        if len(free) > conditions.EXHAUSTIVE:
            return True, True
        values = set()
        for chosen in product((False, True), repeat=len(free)):
            setting = {**self.fixed, **dict(zip(free, chosen, strict=True))}
            values.add(conditions.evaluate(tokens, setting))
            if len(values) == 2:
                break
        return True in values, False in values


def in_force(rule: Access, values: Sequence[tuple[bool, bool]]) -> tuple[bool, bool]:
    """Whether a rule may, and must, be in force."""
    if rule.condition < 0:
        return True, True
    true, false = values[rule.condition]
    return (true, not false) if rule.branch else (false, not true)
