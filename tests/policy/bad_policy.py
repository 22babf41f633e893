"""A wrong policy, and what is found in it."""

from __future__ import annotations

from dataclasses import dataclass

from shype.policy.findings import Id
from tests.policy.good_policies import GOOD


@dataclass(frozen=True, slots=True)
class Bad:
    """The first ``old`` in ``base`` becomes ``new``; then ``id`` is found at ``line``:``column``.

    ``says`` and ``fix`` are parts of the sentence and of the fix.
    """

    id: Id
    old: str
    new: str
    line: int
    column: int
    says: str
    fix: str
    warning: bool = False
    base: str = GOOD

    @property
    def text(self) -> str:
        """The spoiled policy."""
        if not self.old:
            return self.new
        assert self.old in self.base, self.old
        return self.base.replace(self.old, self.new, 1)
