"""The policies that test files name: each read once, however many files test it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from shype.analysis.suites.labels import Labels
from shype.base.errors import BadInput
from shype.decision.security_server import SecurityServer
from shype.policy import loader, signed
from shype.policy.findings import Id
from shype.policy.model import Policy
from shype.policy.resources import ResourceTable
from shype.policy.source import Finding, Severity, Span
from shype.policy.suggest import Suggester


class Subject:
    """A policy under test, with what finds its labels and resources by name."""

    def __init__(self, policy: Policy, suggest: Suggester) -> None:
        self.policy = policy
        self.labels = Labels(policy, suggest)
        self.resources = ResourceTable(policy.resources)
        self._servers: dict[date, SecurityServer] = {}

    def server(self, day: date) -> SecurityServer:
        """The server that decides as of ``day``."""
        if day not in self._servers:
            self._servers[day] = SecurityServer(self.policy, today=day)
        return self._servers[day]


class Policies:
    """Reads policies, and collects what is wrong with them."""

    def __init__(self, suggest: Suggester) -> None:
        self.findings: list[Finding] = []
        self._suggest = suggest
        self._subjects: dict[Path, Subject | None] = {}

    def read(self, path: Path) -> Subject | None:
        """The policy in ``path``: a policy file, or a bundle (``.shype``). None: see `findings`.

        Guards that have expired are no error here: what that means is for the tests to say.
        """
        key = path.resolve()
        if key not in self._subjects:
            policy = self._bundle(path) if path.suffix == ".shype" else self._source(path)
            self._subjects[key] = None if policy is None else Subject(policy, self._suggest)
        return self._subjects[key]

    def _source(self, path: Path) -> Policy | None:
        policy, findings = loader.check(path, date.min)
        self.findings += [found for found in findings if found.severity is Severity.ERROR]
        return policy

    def _bundle(self, path: Path) -> Policy | None:
        try:
            return signed.opened(signed.read(path), path)[0].policy
        except (BadInput, OSError) as problem:
            message = problem.message if isinstance(problem, BadInput) else str(problem)
            fix = problem.fix if isinstance(problem, BadInput) else ""
            self.findings.append(Finding(
                str(Id.FILE_UNREADABLE), Span(str(path), 1, 1), message,
                fix or "name a policy file",
            ))
            return None
