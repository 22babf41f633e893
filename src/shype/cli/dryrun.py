"""`shype dry-run`: would this VM start, and would it get its disks, networks and devices?"""

from __future__ import annotations

import argparse
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from shype.base.errors import BadInput
from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.decision.running import Running
    from shype.host.dry_run import DryRun

_EPILOG = """\
The configuration is read as xl reads it, without xl and without Xen, and never
executed. Asked are: its label (the policy's `vms:`, its own `seclabel`, or
`unlabeled`), whether dom0 may run it, whether a wall keeps it from what runs,
and each disk, network, PCI device, IRQ, I/O port and memory range that it
names. `shype ps --json > running.json` says what runs; without --state the wall
is asked as if nothing ran.

example:
  shype dry-run examples/banks.yaml a-db.cfg
  shype dry-run examples/banks.yaml a-db.cfg --state running.json --json

exit codes: 0 passed; 1 something is denied; 2 bad policy, configuration or
state
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "dry-run",
        help="say whether a VM would start and get its resources, and why",
        description="Decide about a VM by its configuration, and start nothing.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument("file", metavar="FILE", type=Path, help="a policy file, or a bundle")
    command.add_argument("config", metavar="VM.cfg", type=Path, help="the VM's configuration")
    command.add_argument("--state", metavar="FILE", type=Path, help="what runs (JSON)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.cli.explain import read_policy
    from shype.decision.security_server import SecurityServer
    from shype.host.dry_run import dry_run

    policy = read_policy(args.file)
    running = _running(args.state) if args.state else []
    server = SecurityServer(policy, today=date.today())
    try:
        done = dry_run(server, _text(args.config), running)
    except BadInput as problem:
        if not problem.id.startswith("config.") or problem.id == "config.unreadable":
            raise
        raise BadInput(problem.id, f"{args.config}: {problem.message}", problem.fix) from problem
    if args.json:
        output.print_json({
            "vm": done.vm, "label": done.labelling.label, "passed": done.passed,
            "state": args.state is not None,
            "questions": [question.to_json() for question in done.questions],
        })
    else:
        _print(done, state=args.state is not None)
    return 0 if done.passed else 1


def _text(path: Path) -> str:
    from shype.base.files import read_regular
    from shype.host.drivers.xen.config_file import SIZE_LIMIT

    try:
        return read_regular(path, SIZE_LIMIT).decode()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise BadInput(
            "config.unreadable", f"the configuration {path} cannot be read: {reason}",
            "name a VM's configuration for xl",
        ) from problem


def _running(path: Path) -> list[Running]:
    """What runs, by the file; a domain whose label nobody knows keeps the text that it has."""
    from shype.analysis import state
    from shype.decision.running import Running
    from shype.policy.names import LabelName

    return [
        Running(domain.domid, domain.vm, domain.label or LabelName(domain.context or "unknown"))
        for domain in state.read(path).domains
        if domain.domid != 0
    ]


def _print(done: DryRun, *, state: bool) -> None:
    for notice in done.labelling.notices:
        output.note(notice)
    print(f"VM {done.vm}: label {done.labelling.label or 'none'}")
    for question in done.questions:
        decision = question.decision
        verdict = output.said(decision.verdict)
        print(f"  {verdict:9}  {question.about}: {decision.sentence} [{decision.id}]")
        for rule in decision.rules if not decision.permitted else ():
            print(f"             {rule}")
    if not state:
        output.note("walls: asked as if nothing ran; --state FILE says what runs")
    print(f"dry run: {'passed' if done.passed else 'failed'}")
