"""`shype test`: ask a policy what its tests expect of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shype.analysis.suites.coverage import Coverage
    from shype.analysis.suites.model import Outcome, Test
    from shype.cli.types import Commands

#: Tests from which on it may take more than two seconds.
_MANY = 3_000
#: Failing tests that are shown in full; --json has all.
_SHOWN = 50

_EPILOG = """\
DIR is searched for files named *.test.yaml; a path of one file works too. A
test file names its policy and lists questions with the answers expected:

  shype-test: 1
  policy: ../hospital.yaml
  tests:
    research learns no names:
      - may surgery -> trial-portal: no
      - may anonymiser -> trial-portal via grant: yes
      - may laboratory -> trial-portal: {answer: no, because: ste.disjoint}
      - may trial-portal use disk /dev/vg0/patients-1: no

docs/reference/policy-tests.md has every form; docs/how-to/policy-ci.md a CI
job.

examples:
  shype test examples/tests
  shype test examples/tests -k anonymiser --list
  shype test examples --junit report.xml --min-coverage 80
  shype test examples --tap

exit codes: 0 all as expected, 1 a test failed or coverage is too low,
2 a test file or its policy has errors, or there is no test at all
"""


def add(commands: Commands) -> None:
    """Register the command."""
    from shype.cli.types import day, path

    command = commands.add_parser(
        "test",
        help="ask a policy what its tests expect, and say which rules they cover",
        description="Ask a policy the questions of test files and compare the answers with those "
        "expected. Nothing is compiled and no hypervisor is needed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "paths", metavar="DIR", type=path, nargs="+", help="a directory, or one test file"
    )
    command.add_argument(
        "-k", metavar="TEXT", dest="text", default="",
        help="only tests with TEXT in their file, title or question",
    )
    command.add_argument("--list", action="store_true", help="show the tests and ask nothing")
    command.add_argument(
        "--date", metavar="YYYY-MM-DD", type=day,
        help="ask as of this day instead of today, where a test file names none",
    )
    command.add_argument(
        "--coverage", action="store_true", help="list the rules that determined no answer"
    )
    command.add_argument(
        "--min-coverage", metavar="PERCENT", type=_percent,
        help="fail if less of the rules determined an answer",
    )
    command.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit's XML as well")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--tap", action="store_true", help="print TAP version 14 instead")
    how.add_argument("--json", action="store_true", help="print one JSON document instead")
    command.set_defaults(run=_run)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def _run(args: argparse.Namespace) -> int:
    from contextlib import nullcontext
    from datetime import date

    from shype.analysis.suites import junit, running, tap
    from shype.analysis.suites.coverage import coverage
    from shype.analysis.suites.model import TestsInvalid
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic

    try:
        tests = running.collect(args.paths, args.date or date.today())
        tests = running.select(tests, args.text)
    except BadInput as error:
        if args.tap:
            for line in tap.bail_out(error.message):
                print(line)
        if args.junit is not None and isinstance(error, TestsInvalid):
            write_atomic(args.junit, junit.errors(error.findings))
        raise
    if args.list:
        return _list(tests, as_json=args.json)
    asked: Iterator[Outcome] = running.run(tests)
    outcomes: list[Outcome] = []

    def kept() -> Iterator[Outcome]:
        for outcome in asked:
            outcomes.append(outcome)
            yield outcome

    with output.progress(f"{len(tests)} tests") if len(tests) > _MANY else nullcontext():
        if args.tap:
            for line in tap.lines(kept(), len(tests)):
                print(line)
        else:
            list(kept())
        covered = coverage(outcomes)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    low = args.min_coverage is not None and covered.percent < args.min_coverage
    if args.junit is not None:
        write_atomic(args.junit, junit.report(outcomes))
    if args.json:
        output.print_json({
            "ok": not failed and not low, "passed": len(outcomes) - len(failed),
            "failed": len(failed), "tests": [outcome.to_json() for outcome in outcomes],
            "coverage": covered.to_json(),
        })
    elif args.tap:
        _show_coverage(covered, args.coverage, args.min_coverage, mark="# ")
    else:
        _show(outcomes, failed)
        _show_coverage(covered, args.coverage, args.min_coverage)
    return 1 if failed or low else 0


def _list(tests: Sequence[Test], *, as_json: bool) -> int:
    if as_json:
        output.print_json({"tests": [
            {"file": test.file, "line": test.span.line, "title": test.title,
             "question": str(test.question), "expected": str(test.expected)}
            for test in tests
        ]})
        return 0
    for test in tests:
        print(f"{test.span}: {test.title}: {test.question}: {test.expected}")
    return 0


def _show(outcomes: Sequence[Outcome], failed: Sequence[Outcome]) -> None:
    from collections import Counter

    from shype.analysis.suites.told import reasons

    bad = Counter(outcome.test.file for outcome in failed)
    for file, count in Counter(outcome.test.file for outcome in outcomes).items():
        wrong = f", {bad[file]} FAILED" if bad[file] else ""
        print(f"{file}: {count - bad[file]} ok{wrong}")
    for outcome in failed[:_SHOWN]:
        test = outcome.test
        print(f"\nFAILED {test.span}: {test.title}")
        if test.written != str(test.question):
            print(f"  {test.written}")
        print(f"  {test.question}\n  expected {test.expected}, got {outcome.got}")
        for line in reasons(outcome):
            print(f"    {line}")
    if len(failed) > _SHOWN:
        print(f"\nand {len(failed) - _SHOWN} more FAILED (--json has all)")
    print(f"\n{_many(len(outcomes), 'test')}: {len(outcomes) - len(failed)} ok, "
          f"{len(failed)} failed")


def _show_coverage(
    covered: Coverage, in_full: bool, least: float | None, mark: str = ""
) -> None:
    missed = covered.missed
    determined = len(covered.rules) - len(missed)
    hint = " (--coverage lists the others)" if missed and not in_full else ""
    print(f"{mark}coverage: {covered.percent:.1f}% of the rules determined an answer, "
          f"{determined} of {len(covered.rules)}{hint}")
    if in_full:
        for rule in missed:
            print(f"{mark}  {rule.span}: {rule} determined nothing")
    if least is not None and covered.percent < least:
        print(f"{mark}coverage is below {least:g}%")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
