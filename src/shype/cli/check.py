"""`shype check`: everything that is wrong with a policy file, at once."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.analysis.assertions.result import Result
    from shype.cli.types import Commands
    from shype.policy.model import Policy
    from shype.policy.source import Finding

_EPILOG = """\
examples:
  shype check examples/banks.yaml
  shype check examples/hospital.yaml --date 2027-06-01
  shype check examples/classified.yaml --inventory host.txt
  shype check examples/banks.yaml --assert more.yaml

Each finding names file:line:column, what is wrong, a stable id (explained in
docs/reference/findings.md) and the fix. Warnings do not make a policy invalid.
A guard that has expired is an error; --date says on which day to judge. An
inventory has a line `KIND NAME` for each resource of a host (disk /dev/vg0/a);
each entry of `resources` that matches none of them is a warning.

Assertions (`assert:` in the policy, and files of them) say what must be true of
every flow of information, and are proved for all that the policy permits, in
all states that its walls permit. A violated one is shown with a path, the rule
and line of each step, and what has to start and stop
(docs/reference/assertions.md).

exit codes: 0 no errors; 1 an assertion is violated; 2 errors in a file (or it
cannot be read), and then no assertion is looked at
"""


def add(commands: Commands) -> None:
    """Register the command."""
    from argparse import RawDescriptionHelpFormatter

    from shype.cli.types import day

    command = commands.add_parser(
        "check",
        help="check a policy file and report all that is wrong with it",
        description="Check a policy file: its YAML, its structure and its meaning, and prove its "
        "assertions. Nothing is compiled and no hypervisor is needed.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the policy file (YAML)")
    what.add_argument(
        "--schema", action="store_true",
        help="print the JSON Schema of the language (for editors) and check nothing",
    )
    command.add_argument(
        "--date", metavar="YYYY-MM-DD", type=day, help="judge as of this day instead of today"
    )
    command.add_argument(
        "--inventory", metavar="FILE", type=Path, help="the resources of a host, one a line"
    )
    command.add_argument(
        "--assert", dest="assertions", metavar="FILE", type=Path, action="append", default=[],
        help="prove the assertions in this file too; can be repeated",
    )
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.cli.proving import proved
    from shype.policy import inventory, loader, reading, schema

    if args.schema:
        print(schema.text(), end="")
        return 0
    known = inventory.read(args.inventory) if args.inventory is not None else None
    policy, findings = loader.check(args.file, args.date, known)
    results: tuple[Result, ...] = ()
    if policy is not None:
        read = [loader.check_assertions(path, policy) for path in args.assertions]
        findings += tuple(finding for _, wrong in read for finding in wrong)
        more = [found for found, _ in read if found is not None]
        for path, some in zip(args.assertions, read, strict=True):
            if some[0] == ():  # an emptied file must not pass
                raise BadInput(
                    "assert.empty", f"{reading.shown(path)} has no assertion in it",
                    "write some under `assert:`, or leave the file out",
                )
        if len(more) == len(read):
            results = proved(policy, [*policy.assertions, *(one for some in more for one in some)])
        else:
            policy = None
    seen = _Seen(reading.shown(args.file), policy, findings, results)
    if args.json:
        seen.print_json()
    else:
        seen.print_text()
    return 2 if policy is None else int(not all(result.holds for result in results))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What `shype check` has to say. No policy: it, or a file of assertions, has errors."""

    file: str
    policy: Policy | None
    findings: tuple[Finding, ...]
    results: tuple[Result, ...]

    def print_json(self) -> None:
        from shype.cli import output
        from shype.cli.proving import findings

        policy = self.policy
        everything = (*self.findings, *findings(self.results))
        output.print_json({
            "file": self.file,
            "ok": policy is not None and all(result.holds for result in self.results),
            "policy": {"name": policy.name, "version": policy.version} if policy else None,
            "findings": [finding.to_json() for finding in everything],
            "assertions": [result.to_json() for result in self.results],
        })

    def print_text(self) -> None:
        from shype.cli.proving import counted, findings, lines
        from shype.policy.source import Severity

        for finding in self.findings:
            print(finding)
        for result in self.results:
            for line in lines(result):
                print(line)
        everything = (*self.findings, *findings(self.results))
        errors = sum(finding.severity is Severity.ERROR for finding in everything)
        warnings = len(everything) - errors
        number = f"{_many(errors, 'error')}, {_many(warnings, 'warning')}"
        policy = self.policy
        if policy is None:
            print(f"{self.file}: {number}")
            return
        more = "".join(f", {_many(count, noun)}" for count, noun in (
            (len(policy.guards), "guard"), (len(policy.resources), "resource"),
        ) if count)
        proof = f"; {counted(self.results)}" if self.results else ""
        holds = all(result.holds for result in self.results)
        print(
            f"{self.file}: {'ok: ' if holds else ''}policy {policy.name} {policy.version}, "
            f"{_many(len(policy.labels), 'label')}, {_many(len(policy.coalitions), 'coalition')}, "
            f"{_many(len(policy.walls), 'conflict set')}{more}{proof}; {number}"
        )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
