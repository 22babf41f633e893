"""`shype plan`: what an update would do, before anything is applied."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shype.analysis.changes import Change
    from shype.analysis.contexts import Contexts
    from shype.analysis.ids import Found
    from shype.analysis.pairs import Group, Party
    from shype.analysis.plan import Plan
    from shype.cli.types import Commands
    from shype.decision.operation import Operation
    from shype.policy.model import Policy

#: Rows of a table that are shown; --json has all.
_ROWS = 40

_EPILOG = """\
OLD is what is loaded, NEW what shall replace it: policy files or compiled
bundles. NEW must say `policy: {from: OLD's version}` and have a higher version;
what has a new name says its old one by `was:`; labels that are gone, and that a
VM may still carry, are listed under `retired:`.

The state says what runs. `shype ps --json > running.json` writes it in dom0;
open channels and used resources can be added (docs/reference/plan-state.md).
Without a state, findings that depend on what runs say so and do not count for
the verdict.

verdicts:
  clean             load it: no VM that runs notices more than what is listed
  needs-revocation  load it, then stop the listed VMs or close the listed
                    channels, because memory that is mapped stays mapped
                    through a reload
  impossible        stop the listed VMs first, or change NEW

examples:
  shype plan old.yaml new.yaml
  shype ps --json > running.json
  shype plan /etc/shype/policy.shype new.yaml --state running.json

exit codes: 0 clean, 1 needs revocation, 2 impossible (with a verdict on
standard output), 2 bad input (an error on standard error; with --json an
`error` and no `verdict`)
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "plan",
        help="say what replacing a policy by another would do to what runs",
        description="Compare two policies: who gains and loses what, which running VMs would "
        "lose their label, violate a wall or keep what becomes forbidden, and whether the "
        "update can be applied. Changes nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("old", type=Path, metavar="OLD", help="the policy that is loaded")
    command.add_argument("new", type=Path, metavar="NEW", help="the policy to replace it by")
    command.add_argument("--state", type=Path, metavar="FILE", help="what runs (JSON)")
    command.add_argument("--json", action="store_true", help="one JSON document, with everything")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.analysis.plan import Verdict, plan
    from shype.analysis.state import read
    from shype.cli.explain import read_policy

    # A guard of OLD that has expired is no reason to refuse to replace OLD, and one of NEW is
    # a finding of the plan.
    old, new = (read_policy(path, today=date.min) for path in (args.old, args.new))
    state = None if args.state is None else read(args.state)
    made = plan(old, new, contexts(old), contexts(new), today=date.today(), state=state)
    if args.json:
        output.print_json(made.to_json())
    else:
        show_plan(made)
    return {Verdict.CLEAN: 0, Verdict.REVOKE: 1, Verdict.IMPOSSIBLE: 2}[made.verdict]


def contexts(policy: Policy) -> Contexts:
    """How the compiler writes the labels of ``policy`` down for the hypervisor."""
    from shype.analysis.contexts import Contexts, levels_of
    from shype.compile.flask import encoding

    entries = encoding.label_entries(policy)
    return Contexts(
        {**{name: encoding.type_of(name) for name in policy.retired},
         **{name: entry.type for name, entry in entries.items()}},
        {name: levels_of(entry.context) for name, entry in entries.items()},
        levels_of(encoding.dom0_entry(policy).context),
    )


def show_plan(made: Plan) -> None:
    """Print what an update changes and what becomes of what runs."""
    print(f"{made.old.name} {made.old.version} -> {made.new.name} {made.new.version}\n")
    _show_changes(made.changes)
    _show_groups(made.groups)
    for finding in made.found:
        _show_finding(finding)
    print(f"{made.verdict}: {_conclusion(made)}")


def _show_changes(changes: Sequence[Change]) -> None:
    if not changes:
        print("nothing is declared otherwise than before\n")
        return
    output.table("", ("what", "name", "change", "written at"), [
        (c.kind, c.name, c.what, str(c.places[-1]) if c.places else "") for c in changes[:_ROWS]
    ])
    _rest(len(changes))
    print()


def _show_groups(groups: Sequence[Group]) -> None:
    from shype.analysis.pairs import counted

    if not groups:
        print("no pair of labels gains or loses an operation\n")
        return
    output.table("", ("pairs of labels, by operation", "gained", "lost"), [
        (op, str(gained), str(lost)) for op, (gained, lost) in counted(groups).items()
    ])
    print()
    rows = [
        (_names(group.subjects), _names(group.objects),
         _operations(group.gained), _operations(group.lost))
        for group in groups[:_ROWS]
    ]
    output.table("", ("each of", "on each of", "gains", "loses"), rows)
    _rest(len(groups))
    print()


def _names(parties: Sequence[Party]) -> str:
    from shype.decision.wording import listed

    return listed([party.shown for party in parties])


def _operations(found: Sequence[Operation]) -> str:
    """The operations; of a mechanism of which it is all, only its name."""
    from shype.decision.operation import Operation

    words = []
    for mechanism in dict.fromkeys(op.mechanism for op in found):
        own = [op for op in found if op.mechanism is mechanism]
        every = [op for op in Operation if op.mechanism is mechanism]
        words += [mechanism.value] if own == every else [op.value for op in own]
    return ", ".join(words) or "-"


def _rest(count: int) -> None:
    if count > _ROWS:
        print(f"and {count - _ROWS} more (--json has all)")


def _show_finding(finding: Found) -> None:
    print(f"{finding.weight}: {finding.sentence} [{finding.id}]")
    print(f"  fix: {finding.fix}")
    for span in finding.places:
        print(f"  at: {span}")
    print()


def _conclusion(made: Plan) -> str:
    from shype.analysis.ids import Weight
    from shype.analysis.plan import Verdict

    match made.verdict:
        case Verdict.IMPOSSIBLE:
            vms = made.concerned(Weight.STOP)
            return f"without stopping {_vms(vms)}" if vms else "see the findings above"
        case Verdict.REVOKE:
            return f"load it, then take back what {_vms(made.concerned(Weight.REVOKE))} hold"
    if made.informed:
        return "it can be loaded while these VMs run"
    open_ = sum(finding.conditional for finding in made.found)
    return (f"as far as the policies tell; {open_} findings depend on what runs: give --state"
            if open_ else "as far as the policies tell; what runs is not known (--state)")


def _vms(vms: Sequence[tuple[int, str]]) -> str:
    from shype.decision.wording import printable

    return ", ".join(f"{printable(vm)} (domain {domid})" for domid, vm in vms)
