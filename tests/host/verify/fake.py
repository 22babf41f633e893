"""A hypervisor that has loaded a binary policy, as dom0 can ask it."""

from __future__ import annotations

from dataclasses import dataclass, field

from shype.base.errors import BadInput
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary, read


@dataclass
class Hypervisor:
    """Answers `shype.host.verify.oracle.Asked` and for booleans."""

    binary: Binary
    values: dict[str, bool] = field(default_factory=dict)
    sequence: int = 1
    #: Contexts by SID, from 1.
    contexts: list[str] = field(default_factory=list)

    @classmethod
    def with_policy(cls, data: bytes) -> Hypervisor:
        return cls(read(data))

    def boolean(self, name: str) -> bool | None:
        return self.values.get(name, False) if name in self.binary.booleans else None

    _made: tuple[dict[str, bool], Answers] | None = None

    @property
    def _answers(self) -> Answers:
        if self._made is None or self._made[0] != self.values:
            self._made = dict(self.values), Answers(self.binary, self.values)
        return self._made[1]

    def sid(self, context: str) -> int | None:
        if context in self.contexts:
            return self.contexts.index(context) + 1
        try:
            self._answers.allowed(context, context, "domain")
        except BadInput:
            return None
        self.contexts.append(context)
        return len(self.contexts)

    def context(self, sid: int) -> str:
        return self.contexts[sid - 1]

    def allowed(self, source: int, target: int, cls: int) -> int:
        return self._answers.allowed(self.context(source), self.context(target), self._class(cls))

    def created(self, source: int, target: int, cls: int) -> int:
        made = self._answers.created(
            self.context(source), self.context(target), self._class(cls))
        found = self.sid(made)
        assert found is not None
        return found

    def _class(self, value: int) -> str:
        return next(name for name, entry in self.binary.classes.items() if entry.value == value)
