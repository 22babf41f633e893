"""An immutable counter per conflict set member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from shype.policy.names import MemberName


class Counts(Mapping[MemberName, int]):
    """How often each member counts. Members at zero are absent; a value, hashable.

    Never negative: `minus` raises ValueError instead.
    """

    __slots__ = ("_counts",)

    def __init__(self, members: Iterable[MemberName] = ()) -> None:
        self._counts = Counter(members)

    def plus(self, members: Iterable[MemberName]) -> Counts:
        """These counts with one more for every mention of a member in ``members``."""
        result = Counts()
        result._counts = self._counts.copy()
        result._counts.update(members)
        return result

    def minus(self, members: Iterable[MemberName]) -> Counts:
        """The inverse of `plus`. Raises ValueError if a count would become negative."""
        counts = self._counts.copy()
        counts.subtract(members)
        if any(count < 0 for count in counts.values()):
            raise ValueError("a count would become negative")
        result = Counts()
        result._counts = +counts
        return result

    def of(self, member: MemberName) -> int:
        """The count of ``member``, 0 if absent."""
        return self._counts[member]

    def __getitem__(self, member: MemberName) -> int:
        if member not in self._counts:
            raise KeyError(member)
        return self._counts[member]

    def __iter__(self) -> Iterator[MemberName]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __hash__(self) -> int:
        return hash(frozenset(self._counts.items()))

    def __repr__(self) -> str:
        return f"Counts({dict(sorted(self._counts.items()))})"
