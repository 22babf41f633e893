"""`shype lab probe`: what guests can really do to each other, beside what the policy says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.cli.types import Commands

_EPILOG = """\
example:
  shype lab probe a-db a-desk market

The guests must run (shype lab run -- shype run VM.cfg) and have the lab's own
initrd, which holds the probe. Each row is one real attempt: permitted means
that the information arrived, denied that the hypervisor refused. The row says
which decision of the security server it is held against.
exit codes: 0 the hypervisor did what the policy says, 1 it did not, 2 bad
input, 3 a guest does not answer
"""


def add(actions: Commands) -> None:
    """Register the action."""
    probe = actions.add_parser(
        "probe", help="let guests try every mechanism on each other",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EPILOG,
        description="Try event channels, grants and Argo between every ordered pair of guests and "
        "compare what the hypervisor did with what the policy says.")
    probe.add_argument("vm", nargs="+", metavar="VM", help="two or more running guests")
    probe.add_argument("--name", default="lab", help="which lab (default: lab)")
    probe.add_argument("--json", action="store_true", help="all evidence as JSON")
    probe.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.cli import output
    from shype.lab import trial
    from shype.lab.host import Lab

    if len(set(args.vm)) < 2:
        raise BadInput("probe.guests", "a pair of guests is needed", "name two or more VMs")
    lab = Lab.attach(args.name)
    with output.progress("the guests try"):
        trials = trial.matrix(lab, list(dict.fromkeys(args.vm)))
    wrong = sum(not item.agrees for item in trials)
    if args.json:
        output.print_json({"wrong": wrong, "trials": [item.to_json() for item in trials]})
    else:
        output.table("", ("from", "to", "mechanism", "policy", "hypervisor", "check"), [
            (item.attempt.source, item.attempt.target, item.attempt.mechanism,
             f"{output.said(item.decision.verdict)} ({item.decision.id})", item.attempt.result,
             "ok" if item.agrees else "UNEXPECTED")
            for item in trials
        ])
        print(f"\n{len(trials)} attempts, {wrong} not as the policy says")
    return 1 if wrong else 0
