"""Who may do what to whom, as one integer per subject and permission (a bit per target type)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from shype.compile.flask.reader import Access

#: A permission: class and name.
Permission = tuple[str, str]


class Names:
    """Types by index, and what every type or attribute name stands for."""

    def __init__(self, types: Iterable[str], attributes: Mapping[str, Iterable[str]]) -> None:
        self.types = tuple(types)
        self.index = {name: i for i, name in enumerate(self.types)}
        self.members = {name: [i] for name, i in self.index.items()}
        for name, types_of in attributes.items():
            self.members[name] = [self.index[type_] for type_ in types_of]
        self._masks: dict[str, int] = {}
        self._unions: dict[tuple[str, ...], int] = {}

    def mask(self, name: str) -> int:
        """All types that ``name`` stands for."""
        found = self._masks.get(name)
        if found is None:
            found = 0
            for index in self.members[name]:
                found |= 1 << index
            self._masks[name] = found
        return found

    def mask_of(self, names: tuple[str, ...]) -> int:
        """All types that any of ``names`` stands for. Raises KeyError for an unknown one."""
        found = self._unions.get(names)
        if found is None:
            found = 0
            for name in names:
                found |= self.mask(name)
            self._unions[names] = found
        return found


class Matrix:
    """Rows of target masks, by permission and subject. An absent row is empty."""

    def __init__(self) -> None:
        self.rows: dict[Permission, dict[int, int]] = {}

    def add(
        self, subjects: Iterable[int], targets: int, cls: str, permissions: Iterable[str]
    ) -> None:
        """Every subject may use every permission on every target."""
        chosen = tuple(subjects)
        for permission in permissions:
            rows = self.rows.setdefault((cls, permission), {})
            for subject in chosen:
                rows[subject] = rows.get(subject, 0) | targets

    def allow(self, rule: Access, names: Names) -> None:
        """Add a rule of the binary."""
        self.add(
            names.members[rule.source], names.mask(rule.target), rule.cls, rule.permissions
        )

    def difference(self, other: Matrix) -> Iterator[tuple[Permission, int, int]]:
        """(permission, subject, targets) of all that this has and ``other`` has not."""
        for permission, rows in self.rows.items():
            others = other.rows.get(permission, {})
            for subject, targets in rows.items():
                extra = targets & ~others.get(subject, 0)
                if extra:
                    yield permission, subject, extra
