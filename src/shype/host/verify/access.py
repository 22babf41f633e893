"""What a binary policy answers, computed as the hypervisor computes it.

Written from security_compute_av(), constraint_expr_eval(), security_compute_sid()
and mls_compute_sid() in xen/xsm/flask/ss, and cond_evaluate_expr() there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from shype.base.errors import BadInput
from shype.host.verify.binary import Binary, Constraint, Context, Level, Step

_RUN = re.compile(r"(c\d+)(?:\.(c\d+))?")
#: Kinds of a condition's steps: struct cond_expr.
_BOOLEAN, _NOT = 1, 2
_LOGIC: Mapping[int, Callable[[bool, bool], bool]] = {
    3: lambda a, b: a or b, 4: lambda a, b: a and b, 5: lambda a, b: a is not b,
    6: lambda a, b: a is b, 7: lambda a, b: a is not b,
}
#: Kinds of a constraint's steps, what they look at, and how they compare.
_C_NOT, _C_AND, _C_OR, _C_ATTRIBUTE, _C_NAMES = 1, 2, 3, 4, 5
_USER, _ROLE, _TYPE, _TARGET = 1, 2, 4, 8
_EQUAL, _DIFFERENT, _DOM, _DOMBY, _INCOMPARABLE = 1, 2, 3, 4, 5
#: Which two levels a step compares: (of the target?, the high one?) twice.
_LEVELS = {
    32: ((0, 0), (1, 0)), 64: ((0, 0), (1, 1)), 128: ((0, 1), (1, 0)), 256: ((0, 1), (1, 1)),
    512: ((0, 0), (0, 1)), 1024: ((1, 0), (1, 1)),
}
#: The role of every object.
_OBJECT_ROLE = "object_r"


class Answers:
    """The answers of a hypervisor that has loaded ``binary``, with these values of booleans.

    A boolean that ``booleans`` lacks is false.  Contexts are text, as
    ``u:r:l_web_t:s0``; those that the policy does not know raise BadInput
    (``context.unknown``).
    """

    def __init__(self, binary: Binary, booleans: Mapping[str, bool]) -> None:
        self._binary = binary
        values = {value: booleans.get(name, False) for name, value in binary.booleans.items()}
        self._extra: dict[tuple[int, int, int], int] = {}
        for condition in binary.conditions:
            rules = condition.true if _holds(condition.steps, values) else condition.false
            for key, vector in rules.items():
                self._extra[key] = self._extra.get(key, 0) | vector
        self._roles = {"object_r": 1, **binary.roles}
        self._names = {
            "user": {value: name for name, value in binary.users.items()},
            "role": {value: name for name, value in self._roles.items()},
            "level": {value: name for name, value in binary.sensitivities.items()},
            "category": {value: name for name, value in binary.categories.items()},
        }
        self._vectors: dict[tuple[int, int, int], int] = {}
        self._parsed: dict[str, Context] = {}

    # -- what the hypervisor is asked ----------------------------------------------------------

    def allowed(self, source: str, target: str, cls: str) -> int:
        """The access vector of ``source`` on ``target``: FLASK_ACCESS."""
        s, t, found = self._context(source), self._context(target), self._binary.classes[cls]
        vector = self._by_type(s.type, t.type, found.value)
        for constraint in found.constraints:
            if constraint.permissions & vector and not _satisfied(constraint, s, t):
                vector &= ~constraint.permissions
        return vector

    def created(self, source: str, target: str, cls: str) -> str:
        """The context of a new object of class ``cls``: FLASK_CREATE."""
        s, t, value = self._context(source), self._context(target), self._binary.classes[cls].value
        new = self._binary.transitions.get((s.type, t.type, value))
        if cls == "domain":
            return self.text(Context(s.user, s.role, new or s.type, s.low, s.high))
        role = self._roles[_OBJECT_ROLE]
        return self.text(Context(s.user, role, new or t.type, s.low, s.low))

    # -- contexts ------------------------------------------------------------------------------

    def written(self, text: str) -> str:
        """A context, read and written again."""
        return self.text(self._context(text))

    def text(self, context: Context) -> str:
        """A context as the hypervisor writes it: mls_sid_to_context()."""
        low, high = self._level(context.low), self._level(context.high)
        levels = low if context.low == context.high else f"{low}-{high}"
        type_ = self._binary.primary[context.type]
        user, role = self._names["user"][context.user], self._names["role"][context.role]
        return f"{user}:{role}:{type_}:{levels}"

    def _level(self, level: Level) -> str:
        runs: list[list[int]] = []
        for bit in range(level.categories.bit_length()):
            if not level.categories >> bit & 1:
                continue
            if runs and runs[-1][-1] == bit - 1:
                runs[-1].append(bit)
            else:
                runs.append([bit])
        name = self._names["category"]
        words = [
            name[run[0] + 1] + (
                ("," if len(run) == 2 else ".") + name[run[-1] + 1] if len(run) > 1 else ""
            ) for run in runs
        ]
        rank = self._names["level"][level.sensitivity]
        return f"{rank}:{','.join(words)}" if words else rank

    def _context(self, text: str) -> Context:
        found = self._parsed.get(text)
        if found is None:
            try:
                found = self._parse(text)
            except (KeyError, ValueError) as error:
                raise BadInput(
                    "context.unknown", f"the policy has no context {text!r} ({error})",
                ) from error
            self._parsed[text] = found
        return found

    def _parse(self, text: str) -> Context:
        user, role, type_, levels = text.split(":", 3)
        low, _, high = levels.partition("-")
        first = self._parse_level(low)
        last = self._parse_level(high) if high else first
        binary = self._binary
        return Context(binary.users[user], self._roles[role], binary.types[type_], first, last)

    def _parse_level(self, text: str) -> Level:
        rank, _, rest = text.partition(":")
        categories = 0
        for word in rest.split(",") if rest else ():
            run = _RUN.fullmatch(word)
            if run is None:
                raise ValueError(word)
            first = self._binary.categories[run[1]]
            last = self._binary.categories[run[2] or run[1]]
            categories |= (1 << last) - (1 << first - 1)
        return Level(self._binary.sensitivities[rank], categories)

    # -- type enforcement ----------------------------------------------------------------------

    def _by_type(self, source: int, target: int, cls: int) -> int:
        key = source, target, cls
        found = self._vectors.get(key)
        if found is None:
            found = 0
            for s in self._binary.attributes[source]:
                for t in self._binary.attributes[target]:
                    found |= self._binary.rules.get((s, t, cls), 0)
                    found |= self._extra.get((s, t, cls), 0)
            self._vectors[key] = found
        return found


def _holds(steps: tuple[tuple[int, int], ...], values: Mapping[int, bool]) -> bool:
    stack: list[bool] = []
    for kind, boolean in steps:
        if kind == _BOOLEAN:
            stack.append(values[boolean])
        elif kind == _NOT:
            stack.append(not stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(_LOGIC[kind](left, right))
    return stack[0]


def _satisfied(constraint: Constraint, s: Context, t: Context) -> bool:
    stack: list[bool] = []
    for step in constraint.steps:
        if step.kind == _C_NOT:
            stack.append(not stack.pop())
        elif step.kind in (_C_AND, _C_OR):
            right, left = stack.pop(), stack.pop()
            stack.append(left and right if step.kind == _C_AND else left or right)
        elif step.kind == _C_NAMES:
            value = _part(t if step.attribute & _TARGET else s, step.attribute)
            stack.append(bool(step.names >> value - 1 & 1) is (step.operator == _EQUAL))
        else:
            stack.append(_compared(step, s, t))
    return stack[0]


def _compared(step: Step, s: Context, t: Context) -> bool:
    if step.attribute not in _LEVELS:
        if step.operator not in (_EQUAL, _DIFFERENT):
            raise BadInput("bundle.unreadable", "policy.bin compares roles by dominance")
        same = _part(s, step.attribute) == _part(t, step.attribute)
        return same is (step.operator == _EQUAL)
    first, second = (
        getattr((s, t)[side], "high" if end else "low") for side, end in _LEVELS[step.attribute]
    )
    above, below = _dominates(first, second), _dominates(second, first)
    return {
        _EQUAL: above and below, _DIFFERENT: not (above and below), _DOM: above, _DOMBY: below,
        _INCOMPARABLE: not above and not below,
    }[step.operator]


def _part(context: Context, attribute: int) -> int:
    if attribute & _USER:
        return context.user
    return context.role if attribute & _ROLE else context.type


def _dominates(a: Level, b: Level) -> bool:
    return a.sensitivity >= b.sensitivity and not b.categories & ~a.categories


