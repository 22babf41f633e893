"""Ids of what can be wrong with a test file; docs/reference/policy-tests.md explains each."""

from __future__ import annotations

from enum import StrEnum

from shype.policy.source import Finding, Span


class SuiteId(StrEnum):
    """Stable ids of findings in test files, beside those of YAML and of the policies named."""

    EMPTY = "test.empty"
    VERSION = "test.version"
    KEY_UNKNOWN = "test.key-unknown"
    KEY_MISSING = "test.key-missing"
    TYPE = "test.type"
    DATE = "test.date"
    POLICY = "test.policy"
    QUESTION = "test.question"
    MEANS = "test.means"
    LABEL_UNKNOWN = "test.label-unknown"
    PATTERN = "test.pattern"
    RESOURCE = "test.resource"
    ANSWER = "test.answer"
    BECAUSE = "test.because"
    MATRIX = "test.matrix"
    TOO_MANY = "test.too-many"


def error(id: SuiteId, span: Span, message: str, fix: str) -> Finding:
    """A finding that keeps all tests from being run."""
    return Finding(str(id), span, message, fix)
