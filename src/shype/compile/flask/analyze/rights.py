"""Who may use which permission on what: types only, once for "perhaps" and once for "surely"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shype.compile.flask.analyze.certainty import Booleans, Constraints, in_force
from shype.compile.flask.matrix import Names
from shype.compile.flask.permissions.permission_map import Permission
from shype.compile.flask.reader import Access, Binary

#: Target types, as bits, by source type.
Rows = dict[int, int]
_NONE: Mapping[int, int] = {}


@dataclass(frozen=True, slots=True)
class Right:
    """One allow rule that can be in force; ``sure``: whatever the booleans are."""

    rule: Access
    sure: bool


class Rights:
    """All rules of a policy that can be in force, expanded.

    There are four tables: what some setting of booleans and some users, roles
    and levels permit (`rows` as such), what every setting of booleans does
    (``booleans``), what all contexts of these types may do (``contexts``), and
    what both is so of.
    """

    def __init__(self, binary: Binary, names: Names, fixed: Mapping[str, bool]) -> None:
        self.names = names
        self.constraints = Constraints(binary, names)
        values = Booleans(binary.expressions, fixed).masks()
        self.rules: list[Right] = []
        for rule in binary.allows:
            may, must = in_force(rule, values)
            if may:
                self.rules.append(Right(rule, must))
        self.conditional = any(not right.sure for right in self.rules)
        self._tables: dict[tuple[bool, bool], dict[Permission, Rows]] = {}

    def table(self, *, booleans: bool = False, contexts: bool = False) -> dict[Permission, Rows]:
        """One of the four tables: by permission and source type, the target types."""
        which = (booleans and self.conditional, contexts and bool(self.constraints.of))
        if which not in self._tables:
            self._tables[which] = self._made(*which)
        return self._tables[which]

    def _made(self, booleans: bool, contexts: bool) -> dict[Permission, Rows]:
        table: dict[Permission, Rows] = {}
        for right in self.rules:
            if right.sure or not booleans:
                self._add(right.rule, table)
        for permission in self.constraints.of:
            rows = table.get(permission, {})
            for source in rows:
                rows[source] &= self.constraints.masks(permission, source)[contexts]
        return table

    def _add(self, rule: Access, table: dict[Permission, Rows]) -> None:
        targets = self.names.mask(rule.target)
        sources = self.names.members[rule.source]
        for permission in rule.permissions:
            rows = table.setdefault((rule.cls, permission), {})
            for source in sources:
                rows[source] = rows.get(source, 0) | targets

    def rows(
        self, permission: Permission, *, booleans: bool = False, contexts: bool = False
    ) -> Mapping[int, int]:
        """Targets by source, in one of the tables; a source without any may be absent."""
        return self.table(booleans=booleans, contexts=contexts).get(permission, _NONE)
