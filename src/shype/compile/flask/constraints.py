"""Constraints of a binary policy, evaluated as the hypervisor does, for all targets at once.

Source: constraint_expr_eval() in xen/xsm/flask/ss/services.c.  A value is an
integer with one bit per type: whether the expression holds when that type is
the target.  So one evaluation serves a whole row of the access matrix, and
its cost does not depend on how many different levels the targets have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from shype.compile.flask.matrix import Names
from shype.compile.flask.mls import MlsLevel
from shype.compile.flask.reader import Constraint, Context, Token

_SETS = frozenset({"t1", "t2", "r1", "r2", "u1", "u2"})
_LEVELS = frozenset({"l1", "l2", "h1", "h2"})
_COMPARES = frozenset({"==", "!=", "dom", "domby", "incomp"})


class Malformed(ValueError):
    """An expression that the hypervisor would not load, or that is of no use for access."""


class Levels:
    """One level per type, with the answer to "which of them does this level dominate?"."""

    def __init__(self, levels: Sequence[MlsLevel]) -> None:
        self._levels = levels
        ranks: dict[int, int] = {}
        holders: dict[int, int] = {}
        for i, level in enumerate(levels):
            ranks[level.rank] = ranks.get(level.rank, 0) | 1 << i
            mask, category = level.categories, 0
            while mask:
                if mask & 1:
                    holders[category] = holders.get(category, 0) | 1 << i
                mask, category = mask >> 1, category + 1
        self._ranks, self._holders = ranks, holders
        self._below: dict[MlsLevel, int] = {}
        self._above: dict[MlsLevel, int] = {}

    def below(self, level: MlsLevel) -> int:
        """The types whose level ``level`` dominates."""
        found = self._below.get(level)
        if found is None:
            found = 0
            for rank, types in self._ranks.items():
                found |= types if rank <= level.rank else 0
            for category, types in self._holders.items():
                if not level.categories >> category & 1:
                    found &= ~types
            self._below[level] = found
        return found

    def above(self, level: MlsLevel) -> int:
        """The types whose level dominates ``level``."""
        found = self._above.get(level)
        if found is None:
            found = 0
            for rank, types in self._ranks.items():
                found |= types if rank >= level.rank else 0
            mask, category = level.categories, 0
            while mask:
                if mask & 1:
                    found &= self._holders.get(category, 0)
                mask, category = mask >> 1, category + 1
            self._above[level] = found
        return found

    def compare(self, other: Levels, question: Callable[[MlsLevel, MlsLevel], bool]) -> int:
        """Type by type, where both sides of a comparison differ from target to target."""
        pairs = zip(self._levels, other._levels, strict=True)
        return sum(1 << i for i, (a, b) in enumerate(pairs) if question(a, b))


class Interpreter:
    """Evaluates constraints over the types of one binary.

    ``contexts`` has one context per type, in the order of ``names``: what the
    type carries when it is the target of a check.
    """

    def __init__(self, names: Names, contexts: Sequence[Context]) -> None:
        self._names = names
        self._every = (1 << len(names.types)) - 1
        self._low = Levels([context.range.low for context in contexts])
        self._high = Levels([context.range.high for context in contexts])
        self._roles = _by(context.role for context in contexts)
        self._users = _by(context.user for context in contexts)
        self._known: dict[object, int] = {}

    def holds(
        self, constraint: Constraint, source: Context, *, follow: bool = False,
        fixed: MlsLevel | None = None,
    ) -> int:
        """The targets for which ``constraint`` holds with ``source``.

        With ``follow`` the source is an object with the role and level of
        ``source`` and the *target's* type (a channel's default label).  With
        ``fixed`` every target has that one level and the role ``object_r``
        (a channel as target).  Raises `Malformed`.
        """
        return _Evaluation(self, source, follow, fixed).value(constraint.expression)

    def signature(self, constraint: Constraint, source: Context) -> object:
        """Sources with the same value are told apart by no part of ``constraint``."""
        at = self._names.index[source.type]
        member = tuple(
            self._names.mask_of(token) >> at & 1
            for token in constraint.expression if isinstance(token, tuple)
            and all(name in self._names.members for name in token)
        )
        return source.user, source.role, source.range, member


class _Evaluation:
    def __init__(
        self, machine: Interpreter, source: Context, follow: bool, fixed: MlsLevel | None
    ) -> None:
        self._m, self._source, self._follow, self._fixed = machine, source, follow, fixed

    def value(self, expression: Sequence[Token]) -> int:
        stack: list[int | Token] = []
        every = self._m._every
        try:
            for token in expression:
                if isinstance(token, tuple) or token in _SETS or token in _LEVELS:
                    stack.append(token)
                elif token == "not":
                    stack.append(every & ~_number(stack.pop()))
                elif token in ("and", "or"):
                    right, left = _number(stack.pop()), _number(stack.pop())
                    stack.append(left & right if token == "and" else left | right)
                elif token in _COMPARES:
                    second, first = stack.pop(), stack.pop()
                    stack.append(self._compare(first, second, token))
                else:
                    raise Malformed(f"unknown operator {token!r}")
        except IndexError as error:
            raise Malformed("a constraint lacks an operand") from error
        if len(stack) != 1:
            raise Malformed("a constraint has an operand too many")
        return _number(stack[0])

    def _compare(self, first: int | Token, second: int | Token, operator: str) -> int:
        if isinstance(first, str) and first in _SETS and operator in ("==", "!="):
            if isinstance(second, tuple):
                found = self._in_set(first, second)
            elif isinstance(second, str) and second == f"{first[0]}{3 - int(first[1])}":
                found = self._same(first[0])
            else:
                raise Malformed(f"{first} compared with {second}")
            return found if operator == "==" else self._m._every & ~found
        if first in _LEVELS and second in _LEVELS:
            return self._dominance(str(first), str(second), operator)
        raise Malformed(f"{first} {operator} {second}")

    def _in_set(self, operand: str, names: tuple[str, ...]) -> int:
        kind, side = operand[0], operand[1]
        every = self._m._every
        if kind == "t":
            types = self._m._names.mask_of(names)
            if side == "2" or self._follow:
                return types
            return every if types >> self._m._names.index[self._source.type] & 1 else 0
        if side == "1":
            role = "object_r" if self._follow else self._source.role
            return every if (role if kind == "r" else self._source.user) in names else 0
        if kind == "r" and self._fixed is not None:
            return every if "object_r" in names else 0
        table = self._m._roles if kind == "r" else self._m._users
        return _union(table, names)

    def _same(self, kind: str) -> int:
        """Where source and target have the same type, role or user."""
        every = self._m._every
        if kind == "t":
            if self._follow:
                return every
            return 1 << self._m._names.index[self._source.type]
        own = self._source.user
        if kind == "r":
            own = "object_r" if self._follow else self._source.role
            if self._fixed is not None:
                return every if own == "object_r" else 0
        return _union(self._m._roles if kind == "r" else self._m._users, (own,))

    def _dominance(self, first: str, second: str, operator: str) -> int:
        a, b = self._side(first), self._side(second)
        up, down = _dominates(a, b, self._m._every), _dominates(b, a, self._m._every)
        every = self._m._every
        return {
            "dom": up, "domby": down, "==": up & down, "!=": every & ~(up & down),
            "incomp": every & ~up & ~down,
        }[operator]

    def _side(self, operand: str) -> MlsLevel | Levels:
        end, side = operand[0], operand[1]
        if side == "1":
            return self._source.range.high if end == "h" else self._source.range.low
        if self._fixed is not None:
            return self._fixed
        return self._m._high if end == "h" else self._m._low


def _dominates(a: MlsLevel | Levels, b: MlsLevel | Levels, every: int) -> int:
    """Where ``a`` dominates ``b``."""
    if isinstance(a, MlsLevel):
        return (every if a.dominates(b) else 0) if isinstance(b, MlsLevel) else b.below(a)
    if isinstance(b, MlsLevel):
        return a.above(b)
    return a.compare(b, MlsLevel.dominates)


def _number(value: int | Token) -> int:
    if not isinstance(value, int):
        raise Malformed(f"{value!r} stands where a comparison must")
    return value


def _by(values: Iterable[str]) -> Mapping[str, int]:
    table: dict[str, int] = {}
    for i, value in enumerate(values):
        table[value] = table.get(value, 0) | 1 << i
    return table


def _union(table: Mapping[str, int], names: Sequence[str]) -> int:
    found = 0
    for name in names:
        found |= table.get(name, 0)
    return found
