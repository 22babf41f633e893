"""`shype demo`: one table of attempts, each checked against the policy, then the cost."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.demo.scenario import Line, Stage
    from shype.policy.manifest import Bundle

_EPILOG = """\
Boots the lab's Xen with the policy, starts the VMs of its `vms:` section
through shype, lets root go behind shype's back and guests reach for each other,
and compares every outcome with what the policy demands. Where the lab cannot
run, the same table comes from a model, marked as such.

example: shype demo examples/banks.yaml
exit codes: 0 every line as expected, 1 some line was not, 2 bad policy, 3 could
not be run
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "demo", help="watch a real hypervisor enforce a policy",
        description="Watch a real hypervisor enforce a policy, attempt by attempt.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("policy", type=Path, metavar="FILE", help="a policy with a vms: section")
    command.add_argument("--model", action="store_true", help="use the model, do not try the lab")
    command.add_argument("--lab", action="store_true", help="fail rather than use the model")
    command.add_argument("--no-cost", action="store_true", help="leave out the hot path's cost")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import tempfile

    from shype.base.errors import Unavailable
    from shype.compile.flask.build import build
    from shype.demo.model_stage import model_bundle
    from shype.policy.loader import load
    from shype.policy.manifest import load_bundle

    policy = load(args.policy).policy
    if not policy.assignments:
        output.note(f"note: {args.policy} has no vms: section, so no VM of it can be started")
    with tempfile.TemporaryDirectory(prefix="shype-demo-") as scratch:
        out = Path(scratch) / "bundle"
        reason = None if args.model else _lab_problem()
        if reason is None and not args.model:
            build(policy, target="xen-4.17", out=out)
            return _in_lab(args, load_bundle(out))
        if args.lab:
            raise Unavailable("demo.no-lab", f"the lab cannot run here: {reason or '--model'}")
        if reason is not None:
            output.note(f"the lab cannot run here: {reason}")
        return _on_model(args, model_bundle(policy, out), Path(scratch), reason or "--model")


def _lab_problem() -> str | None:
    """Build the lab if that is still to be done; why it cannot be used, or None."""
    from shype.base.errors import ShypeError
    from shype.lab import builder

    try:
        builder.build(progress=output.stage)
    except (ShypeError, OSError) as error:
        return str(error)
    return None


def _in_lab(args: argparse.Namespace, bundle: Bundle) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from shype.demo.lab_stage import LabStage, configurations
    from shype.lab.host import Lab

    output.note("booting Xen with the policy, enforcing ...")
    files = configurations(bundle.policy)
    with ThreadPoolExecutor(1) as pool:
        # beside the scenario: instructions are counted, so a busy machine changes nothing
        counting = None if args.no_cost else pool.submit(_costs, bundle)
        with Lab.up(bundle=bundle.path, files=files) as lab:
            output.note(f"up after {lab.record.seconds} s")
            lines = _play(bundle, LabStage(bundle, lab))
        costs = counting.result() if counting else None
    if args.json:
        output.print_json({
            "model": False, "attempts": [_json(line) for line in lines], "cost": dict(costs or ()),
        })
        return _verdict(lines)
    _table(f"{bundle.policy.name} {bundle.policy.version} on a real Xen with FLASK", lines)
    if costs is not None:
        _cost_table(costs)
    return _verdict(lines)


def _on_model(
    args: argparse.Namespace, bundle: Bundle, scratch: Path, reason: str
) -> int:
    from shype.demo.model_stage import ModelStage

    output.note("MODEL: what follows is the agent's code on a model of Xen; nothing is enforced")
    lines = _play(bundle, ModelStage(bundle, scratch))
    if args.json:
        output.print_json({"model": True, "reason": reason,
                           "attempts": [_json(line) for line in lines]})
    else:
        _table(f"{bundle.policy.name} {bundle.policy.version} on a MODEL, not on a hypervisor",
               lines)
    return _verdict(lines)


def _costs(bundle: Bundle) -> list[tuple[str, dict[str, float]]]:
    """Instructions for each operation, by host; the first time, states are made and kept."""
    from shype.lab import cost

    found = []
    for subject in cost.subjects(bundle, bundle.policy.guests[0].name):
        output.note(f"counting instructions: {subject.name} ...")
        with subject.kept() as lab:
            found.append((subject.name, cost.measure(lab, 2000).to_json()))
    return found


def _cost_table(costs: list[tuple[str, dict[str, float]]]) -> None:
    base = costs[1][1]
    operations = ("send", "map", "unmap", "copy")
    rows = [
        (name, *(f"{figures[op]:.0f} ({figures[op] / base[op]:.3f})" for op in operations))
        for name, figures in costs
    ]
    output.table(
        "instructions per operation, hypervisor and system call (ratio to the reference policy)",
        ("HOST", "event send", "grant map", "grant unmap", "grant copy"), rows,
    )


def _play(bundle: Bundle, stage: Stage) -> list[Line]:
    from shype.demo.scenario import Scenario

    lines = []
    for line in Scenario(bundle.policy, stage).play():
        output.note(f"  {line.attempt}: {line.outcome.result}")
        lines.append(line)
    return lines


def _table(title: str, lines: list[Line]) -> None:
    """What was tried in a table; below it why, once for each explanation."""
    words: dict[str, list[str]] = {}
    rows = []
    for number, line in enumerate(lines, 1):
        words.setdefault(line.outcome.explanation, []).append(str(number))
        rows.append((
            str(number), line.attempt, line.who, f"{line.expected} ({line.rule})",
            f"{line.outcome.result} by {line.outcome.by}",
            "ok" if line.as_expected else "UNEXPECTED",
        ))
    output.table(title, ("#", "ATTEMPT", "WHO", "POLICY", "OUTCOME", "CHECK"), rows)
    print("\nwhy:")
    for explanation, numbers in words.items():
        print(textwrap.fill(
            f"{', '.join(numbers)}: {explanation}", width=96, initial_indent="  ",
            subsequent_indent="     ", break_long_words=False, break_on_hyphens=False,
        ))
    print()


def _verdict(lines: list[Line]) -> int:
    wrong = [line for line in lines if not line.as_expected]
    output.note(f"{len(lines)} attempts, {len(wrong)} not as expected")
    return 1 if wrong or not lines else 0


def _json(line: Line) -> dict[str, object]:
    return {
        "attempt": line.attempt, "who": line.who, "expected": line.expected, "rule": line.rule,
        "result": line.outcome.result, "by": line.outcome.by,
        "explanation": line.outcome.explanation, "as_expected": line.as_expected,
    }
