"""Test files about a policy that is a value and in no file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from shype.analysis.suites.model import Test
from shype.analysis.suites.policies import Policies, Subject
from shype.analysis.suites.reading import Reader
from shype.policy.model import Policy
from shype.policy.suggest import Suggester


class Given(Policies):
    """Whatever policy a test file names: this one."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(Suggester())
        self._subject = Subject(policy, Suggester())

    def read(self, path: Path) -> Subject:
        """The policy given."""
        return self._subject


def made_from(text: str, policy: Policy, day: date) -> list[Test]:
    """The tests in ``text``, about ``policy``; nothing is wrong with them."""
    reader = Reader(day, Given(policy))
    tests = reader.read_text(text, "t.test.yaml", Path())
    assert reader.findings == []
    return tests
