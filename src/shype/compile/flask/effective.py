"""What a binary policy lets happen: its rules, less what its constraints take away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from shype.compile.flask import loading
from shype.compile.flask.constraints import Interpreter, Malformed
from shype.compile.flask.matrix import Matrix
from shype.compile.flask.mismatch import Mismatch
from shype.compile.flask.mls import MlsLevel
from shype.compile.flask.reader import Access, Constraint, Context
from shype.compile.flask.world import World

#: A class and a permission of it.
Right = tuple[str, str]


class Effective:
    """The binary's rules and constraints.

    ``rules`` is type enforcement alone, without what dom0 has under a condition: that is in
    ``windowed``, by target and permission, and what is for updates in ``loading``.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._interpreter = Interpreter(world.names, world.contexts)
        self.rules = Matrix()
        self.windowed: dict[int, dict[Right, list[Access]]] = {}
        self.loading: list[Access] = []
        self._constraints: dict[tuple[str, str], list[Constraint]] = defaultdict(list)
        self._known: dict[object, int] = {}
        for constraint in world.binary.constraints:
            for permission in constraint.permissions:
                self._constraints[constraint.cls, permission].append(constraint)
        for rule in world.binary.allows:
            self._add(rule)

    def _add(self, rule: Access) -> None:
        names = self._world.names
        if loading.concerns(rule):
            self.loading.append(rule)
            return
        if rule.condition >= 0 and rule.source == self._world.dom0_type:
            for target in names.members[rule.target]:
                rights = self.windowed.setdefault(target, {})
                for permission in rule.permissions:
                    rights.setdefault((rule.cls, permission), []).append(rule)
            return
        # Any other condition counts as fulfilled: nothing else may depend on one,
        # and a rule that does is then seen as a permission too many.
        self.rules.allow(rule, names)
        if rule.condition >= 0:
            self.rules.add(
                names.members[rule.source], names.mask(rule.target),
                rule.cls, (f"{p} (conditional)" for p in rule.permissions),
            )

    def malformed(self) -> Iterator[Mismatch]:
        """Constraints that cannot be evaluated, or that cover what the interpreter is not for."""
        source = self._world.contexts[self._world.dom0]
        for constraint in self._world.binary.constraints:
            try:
                self._interpreter.holds(constraint, source)
            except Malformed as error:
                yield Mismatch("constraint", " ".join(sorted(constraint.permissions)),
                               constraint.cls, "one that can be evaluated", str(error))

    def matrix(self) -> Matrix:
        """Who may do what to whom, each with the context of its type."""
        found = Matrix()
        for permission, rows in self.rules.rows.items():
            constrained = permission in self._constraints
            kept = {
                subject: targets & self.lawful(permission, self._world.contexts[subject])
                for subject, targets in rows.items()
            } if constrained else dict(rows)
            found.rows[permission] = kept
        return found

    def unlawful(self) -> Iterator[tuple[Right, int]]:
        """What a constraint keeps dom0 from in a window, and the targets."""
        dom0 = self._world.contexts[self._world.dom0]
        for right in sorted({right for rights in self.windowed.values() for right in rights}):
            lawful = self.lawful(right, dom0)
            yield right, sum(
                1 << target for target, rights in self.windowed.items()
                if right in rights and not lawful >> target & 1
            )

    def allowed(self, permission: tuple[str, str], subject: int) -> int:
        """The types on which a type has a permission, by type enforcement alone."""
        return self.rules.rows.get(permission, {}).get(subject, 0)

    def lawful(
        self, permission: tuple[str, str], source: Context, *, follow: bool = False,
        fixed: MlsLevel | None = None,
    ) -> int:
        """The targets for which all constraints on ``permission`` hold; see `Interpreter.holds`."""
        found = -1
        for constraint in self._constraints.get(permission, ()):
            likeness = self._interpreter.signature(constraint, source)
            key = id(constraint), likeness, follow, fixed
            # An expression that compares two types directly tells every source apart.
            if "t1" in constraint.expression and _direct(constraint):
                key = id(constraint), source, follow, fixed
            value = self._known.get(key)
            if value is None:
                value = self._interpreter.holds(constraint, source, follow=follow, fixed=fixed)
                self._known[key] = value
            found &= value
        return found


def _direct(constraint: Constraint) -> bool:
    """Whether ``t1`` and ``t2`` stand side by side."""
    tokens = constraint.expression
    return any({a, b} == {"t1", "t2"} for a, b in pairwise(tokens)
               if isinstance(a, str) and isinstance(b, str))
