"""JUnit's XML, which CI systems show: testsuites, a testsuite for each file, its testcases."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from shype.analysis.suites.model import Outcome
from shype.analysis.suites.told import reasons
from shype.decision.wording import printable
from shype.policy.source import Finding


def report(outcomes: Sequence[Outcome]) -> bytes:
    """The outcomes, in UTF-8."""
    root = _totals(
        "testsuites", "shype test", len(outcomes),
        failures=sum(not outcome.passed for outcome in outcomes), errors=0,
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
    for file, group in groupby(outcomes, key=lambda outcome: outcome.test.file):
        mine = list(group)
        suite = _totals(
            "testsuite", file, len(mine), failures=sum(not o.passed for o in mine), errors=0,
            seconds=sum(outcome.seconds for outcome in mine),
        )
        suite.set("skipped", "0")
        suite.extend(_case(outcome) for outcome in mine)
        root.append(suite)
    return _bytes(root)


def errors(findings: Iterable[Finding]) -> bytes:
    """Test files that could not be run: each finding is a testcase in error."""
    told = list(findings)
    root = _totals("testsuites", "shype test", len(told), failures=0, errors=len(told), seconds=0)
    for file, group in groupby(told, key=lambda finding: finding.span.file):
        mine = list(group)
        suite = _totals("testsuite", file, len(mine), failures=0, errors=len(mine), seconds=0)
        suite.set("skipped", "0")
        for finding in mine:
            case = ElementTree.SubElement(suite, "testcase", _clean({
                "name": f"{finding.span.line}:{finding.span.column} {finding.id}",
                "classname": file, "time": "0", "file": file, "line": str(finding.span.line),
            }))
            problem = ElementTree.SubElement(case, "error", _clean({
                "type": finding.id, "message": finding.message}))
            problem.text = printable(f"{finding.span}: {finding.message}; fix: {finding.fix}")
        root.append(suite)
    return _bytes(root)


def _totals(
    tag: str, name: str, tests: int, *, failures: int, errors: int, seconds: float
) -> ElementTree.Element:
    return ElementTree.Element(tag, _clean({
        "name": name, "tests": str(tests), "failures": str(failures), "errors": str(errors),
        "time": f"{seconds:.6f}",
    }))


def _case(outcome: Outcome) -> ElementTree.Element:
    test = outcome.test
    case = ElementTree.Element("testcase", _clean({
        "name": f"{test.title}: {test.question}", "classname": test.file,
        "time": f"{outcome.seconds:.6f}", "file": test.file, "line": str(test.span.line),
    }))
    if not outcome.passed:
        failure = ElementTree.SubElement(case, "failure", _clean({
            "type": "answer", "message": f"expected {test.expected}, got {outcome.got}"}))
        failure.text = "\n".join(printable(line) for line in (str(test.span), *reasons(outcome)))
    return case


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    """XML has no control characters, not even escaped ones: they become \\x1b and the like."""
    return {key: printable(value) for key, value in attributes.items()}


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    written = io.BytesIO()
    ElementTree.ElementTree(root).write(written, encoding="utf-8", xml_declaration=True)
    return written.getvalue() + b"\n"
