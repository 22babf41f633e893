"""From paths to outcomes: finds test files, reads all of them, then asks."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from shype.analysis.suites.model import Outcome, Test, TestsInvalid
from shype.analysis.suites.reading import Reader
from shype.base.errors import BadInput
from shype.policy.reading import shown
from shype.policy.source import Finding

#: How the names of test files end.
SUFFIXES = (".test.yaml", ".test.yml")
#: Findings shown at once.
FINDINGS_LIMIT = 1_000


def collect(paths: Sequence[Path], day: date) -> tuple[Test, ...]:
    """All tests below ``paths`` (directories, or files whatever their names), in order.

    ``day``: today, for files that do not say it. Raises BadInput ``test.path``
    and ``test.none``, and TestsInvalid (``test.invalid``) with everything that
    is wrong with the files and their policies.
    """
    files = list(dict.fromkeys(file for path in paths for file in discover(path)))
    reader = Reader(day)
    tests = [test for file in files for test in reader.read(file)]
    findings = {
        (finding.span, finding.id, finding.message): finding
        for finding in (*reader.policies.findings, *reader.findings)
    }
    if findings:
        raise invalid(sorted(findings.values(), key=lambda f: (f.span, f.id)))
    return tuple(tests)


def invalid(findings: Sequence[Finding]) -> TestsInvalid:
    """The error that carries ``findings``, or the first of them if there are too many."""
    told = tuple(findings[:FINDINGS_LIMIT])
    more = f"; {FINDINGS_LIMIT} of {len(findings)} are shown" if len(told) < len(findings) else ""
    return TestsInvalid(
        "test.invalid", f"test files, or policies that they test, have errors{more}",
        "mend them all; nothing was asked", told,
    )


def discover(path: Path) -> list[Path]:
    """The test files below the directory ``path``, sorted; or ``path``, if it is none.

    Hidden directories and links to directories are passed over. Raises
    BadInput ``test.path`` and ``test.none``.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as problem:
        raise BadInput(
            "test.path", f"there are no tests at {shown(path)}: {problem}", "correct the path",
        ) from None
    if not stat.S_ISDIR(mode):
        return [path]
    found: list[Path] = []
    for directory, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(directory, name) for name in sorted(names) if name.endswith(SUFFIXES)]
    if not found:
        raise BadInput(
            "test.none", f"there is no test file below {shown(path)}",
            f"name them *{SUFFIXES[0]}; docs/reference/policy-tests.md says what is in them",
        )
    return found


def select(tests: Iterable[Test], text: str) -> tuple[Test, ...]:
    """The tests with ``text`` in their file, title or question. Raises BadInput ``test.none``."""
    chosen = tuple(test for test in tests if text in test.name or text in test.written)
    if not chosen:
        raise BadInput("test.none", f"no test has {text!r} in its name", "see --list")
    return chosen


def run(tests: Iterable[Test]) -> Iterator[Outcome]:
    """Ask each, in order."""
    for test in tests:
        started = time.perf_counter()
        answer = test.question.ask(test.server)
        passed = test.expected.met(answer)
        yield Outcome(test, answer, passed, time.perf_counter() - started)
