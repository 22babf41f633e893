"""Where things stand in a policy file, and what was found there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shype.base.errors import BadInput


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The start of a node: file name as the user gave it, line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


def distinct(*spans: Span) -> tuple[Span, ...]:
    """Each of them once, in the order of first mention."""
    return tuple(dict.fromkeys(spans))


class Severity(StrEnum):
    """An error stops everything; a warning is shown and goes on."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: stable ``id``, where, a sentence, and the fix."""

    id: str
    span: Span
    message: str
    fix: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.span}: {self.severity}: {self.message} [{self.id}]\n  fix: {self.fix}"

    def to_json(self) -> dict[str, object]:
        """Shape of a finding in ``shype check --json``."""
        return {
            "id": self.id, "severity": str(self.severity), "file": self.span.file,
            "line": self.span.line, "column": self.span.column,
            "message": self.message, "fix": self.fix,
        }


class PolicyInvalid(BadInput):
    """The policy has errors; ``findings`` holds all of them, in file order."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        errors = [f for f in findings if f.severity is Severity.ERROR]
        super().__init__("policy.invalid", "\n".join(str(finding) for finding in errors))
        self.findings = findings

    def to_json(self) -> dict[str, object]:
        """The error, and each finding as `shype check` shows it."""
        return {**super().to_json(), "message": "the policy has errors",
                "findings": [finding.to_json() for finding in self.findings]}
