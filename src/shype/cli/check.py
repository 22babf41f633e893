"""`shype check`: everything that is wrong with a policy file, at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.policy.model import Policy
    from shype.policy.source import Finding

_EPILOG = """\
examples:
  shype check examples/banks.yaml
  shype check examples/hospital.yaml --date 2027-06-01
  shype check examples/classified.yaml --inventory host.txt

Each finding names file:line:column, what is wrong, a stable id (explained in
docs/reference/findings.md) and the fix. Warnings do not make a policy invalid.
A guard that has expired is an error; --date says on which day to judge.
An inventory has a line `KIND NAME` for each resource of a host (disk /dev/vg0/a);
each entry of `resources` that matches none of them is a warning.
exit codes: 0 no errors, 2 errors (or the file cannot be read)
"""


def add(commands: Commands) -> None:
    """Register the command."""
    from argparse import RawDescriptionHelpFormatter

    from shype.cli.types import day

    command = commands.add_parser(
        "check",
        help="check a policy file and report all that is wrong with it",
        description="Check a policy file: its YAML, its structure and its meaning. Nothing is "
        "compiled and no hypervisor is needed.",
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
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.policy import inventory, loader, reading, schema

    if args.schema:
        print(schema.text(), end="")
        return 0
    known = inventory.read(args.inventory) if args.inventory is not None else None
    policy, findings = loader.check(args.file, args.date, known)
    if args.json:
        _print_json(reading.shown(args.file), policy, findings)
    else:
        _print_text(reading.shown(args.file), policy, findings)
    return 0 if policy is not None else 2


def _print_json(file: str, policy: Policy | None, findings: tuple[Finding, ...]) -> None:
    from shype.cli import output

    output.print_json({
        "file": file,
        "ok": policy is not None,
        "policy": {"name": policy.name, "version": policy.version} if policy else None,
        "findings": [finding.to_json() for finding in findings],
    })


def _print_text(file: str, policy: Policy | None, findings: tuple[Finding, ...]) -> None:
    from shype.policy.source import Severity

    for finding in findings:
        print(finding)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = len(findings) - errors
    counted = f"{_many(errors, 'error')}, {_many(warnings, 'warning')}"
    if policy is None:
        print(f"{file}: {counted}")
        return
    more = "".join(f", {_many(count, noun)}" for count, noun in (
        (len(policy.guards), "guard"), (len(policy.resources), "resource"),
    ) if count)
    print(
        f"{file}: ok: policy {policy.name} {policy.version}, {_many(len(policy.labels), 'label')}, "
        f"{_many(len(policy.coalitions), 'coalition')}, "
        f"{_many(len(policy.walls), 'conflict set')}{more}; {counted}"
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
