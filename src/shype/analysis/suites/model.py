"""Tests, ready to be asked, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from shype.analysis.suites.questions import Answer, Question
from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.ids import DecisionId
from shype.decision.security_server import SecurityServer
from shype.policy.source import Finding, Span


@dataclass(frozen=True, slots=True)
class Expected:
    """``word`` as `Answer.word`; ``because``: ids of which a decision must have one (none: any)."""

    word: str
    because: tuple[DecisionId, ...] = ()

    def __str__(self) -> str:
        return f"{self.word} because of {' or '.join(self.because)}" if self.because else self.word

    def met(self, answer: Answer) -> bool:
        """Whether ``answer`` is as expected."""
        ids = {told.decision.id for told in answer.told}
        because = not self.because or not ids.isdisjoint(self.because)
        return answer.word == self.word and because


@dataclass(frozen=True, slots=True)
class Test:
    """One question with the answer expected; patterns have become one test for each label.

    ``written`` is the question as it stands at ``span``, patterns and all.
    """

    __test__ = False  # for pytest: this is none of its own

    file: str
    title: str
    span: Span
    written: str
    question: Question
    expected: Expected
    policy: str
    server: SecurityServer
    today: date

    @property
    def name(self) -> str:
        """What identifies it to a reader: file, title and question."""
        return f"{self.file} {self.title}: {self.question}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test; ``seconds`` is how long the answer took."""

    test: Test
    answer: Answer
    passed: bool
    seconds: float

    @property
    def got(self) -> str:
        """The answer in words, with the ids of its decisions."""
        ids = " and ".join(dict.fromkeys(str(d.id) for d in self.decisions))
        why = " -> ".join(self.answer.way) or ids
        return f"{self.answer.word} ({why})" if why else self.answer.word

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions behind the answer."""
        return tuple(told.decision for told in self.answer.told)

    def to_json(self) -> dict[str, object]:
        """Shape of a test in ``shype test --json``."""
        test = self.test
        return {
            "file": test.file, "line": test.span.line, "column": test.span.column,
            "title": test.title, "written": test.written, "question": str(test.question),
            "policy": test.policy, "today": test.today.isoformat(),
            "expected": test.expected.word,
            "because": list(test.expected.because),
            "got": self.answer.word, "way": list(self.answer.way),
            "passed": self.passed, "seconds": self.seconds,
            "decisions": [decision.to_json() for decision in self.decisions],
        }


class TestsInvalid(BadInput):
    """Test files, or the policies that they name, have errors; nothing was asked.

    ``findings`` holds all of them, by file and line.
    """

    __test__ = False

    def __init__(self, id: str, message: str, fix: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(id, message, fix)
        self.findings = findings

    def to_json(self) -> dict[str, object]:
        """The error, and each finding as `shype check` shows it."""
        return {**super().to_json(), "findings": [finding.to_json() for finding in self.findings]}
