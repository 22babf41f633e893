"""TAP version 14, the Test Anything Protocol: https://testanything.org/tap-version-14-specification.html"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from shype.analysis.suites.model import Outcome
from shype.analysis.suites.told import reasons
from shype.decision.wording import printable

VERSION = "TAP version 14"


def lines(outcomes: Iterable[Outcome], count: int) -> Iterator[str]:
    """The report of ``count`` tests, line by line, as they end."""
    yield VERSION
    yield f"1..{count}"
    for number, outcome in enumerate(outcomes, 1):
        word = "ok" if outcome.passed else "not ok"
        yield f"{word} {number} - {_escaped(outcome.test.name)}"
        if not outcome.passed:
            yield from _diagnostics(outcome)


def bail_out(why: str) -> Iterator[str]:
    """The report of tests that could not be run."""
    yield VERSION
    yield f"Bail out! {_escaped(why)}"


def _diagnostics(outcome: Outcome) -> Iterator[str]:
    """A block of YAML; each value is written in JSON, which YAML includes."""
    test = outcome.test
    values: dict[str, object] = {
        "message": f"expected {test.expected}, got {outcome.got}",
        "file": test.file, "line": test.span.line, "expected": str(test.expected),
        "got": outcome.got, "because": list(reasons(outcome)),
    }
    yield "  ---"
    for key, value in values.items():
        yield f"  {key}: {json.dumps(value)}"
    yield "  ..."


def _escaped(text: str) -> str:
    """A `#` would begin a directive such as `# SKIP`."""
    return printable(text).replace("\\", "\\\\").replace("#", "\\#")
