"""Why an ACM file cannot be read at all, as distinct from what is found in it."""

from __future__ import annotations

from shype.base.errors import BadInput
from shype.policy.source import Span


class AcmUnreadable(BadInput):
    """The file is no ACM policy that can be imported; ``span`` says where that shows."""

    def __init__(self, id: str, message: str, fix: str, span: Span) -> None:
        super().__init__(id, f"{span}: {message}", fix)
        self.span = span

    def to_json(self) -> dict[str, object]:
        """The error and its place."""
        return {**super().to_json(), "file": self.span.file, "line": self.span.line,
                "column": self.span.column}
