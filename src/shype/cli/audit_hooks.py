"""`shype audit-hooks`: which security hook guards which operation, in a Xen source tree."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.analysis.hooks.audit import Row
    from shype.analysis.hooks.states import Check, Effect
    from shype.analysis.hooks.tree import Tree
    from shype.cli.types import Commands

_EPILOG = """\
examples:
  shype audit-hooks xen-4.17.5
  shype audit-hooks xen-4.17.5 --only GNTTABOP_
  shype audit-hooks xen-4.17.5 --findings

when: "each use", the check is made whenever the operation is; "set-up", it is
made then, and what was set up is used later without it. A reason stands where
no check is needed. What the analysis can see and what not:
docs/explanation/complete-mediation.md.
exit codes: 0 every operation is mediated or known to need no check, 1 findings,
2 bad input
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "audit-hooks",
        help="find hypercall operations of a Xen source tree that no security hook guards",
        description="Read a Xen source tree and say for each hypercall operation which XSM hook "
        "dominates its effect, where, and which FLASK permission that is. Nothing is compiled.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", metavar="XEN_SOURCE", type=Path,
                         help="the unpacked source tree")
    command.add_argument("--arch", choices=("x86", "arm"), default="x86",
                         help="which architecture's code to read (default: x86)")
    command.add_argument("--only", metavar="PREFIX", default="",
                         help="only operations whose name starts so, for example EVTCHNOP_")
    command.add_argument("--findings", action="store_true", help="show only what to look at")
    command.add_argument("--absent", action="store_true",
                         help="also show what the headers define and no code handles")
    command.add_argument("--json", action="store_true", help="print rows as JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.analysis.hooks.audit import Verdict, audit
    from shype.base.errors import BadInput
    from shype.cli import output

    with output.progress(f"reading {args.source}"):
        tree, rows = audit(
            args.source, args.arch, lambda each: each.name.startswith(args.only)
        )
    if not rows:
        raise BadInput("hooks.no-operation", f"no operation starts with {args.only!r}",
                       "names are those of Xen's public headers, for example GNTTABOP_copy")
    findings = [row for row in rows if row.finding]
    shown = [
        row for row in (findings if args.findings else rows)
        if args.absent or row.verdict is not Verdict.ABSENT
    ]
    if args.json:
        output.print_json({
            "xen": tree.version, "arch": args.arch, "ok": not findings,
            "rows": [_json(row) for row in shown],
        })
    else:
        _print(tree, rows, shown, findings)
    return 1 if findings else 0


def _print(tree: Tree, rows: tuple[Row, ...], shown: list[Row], findings: list[Row]) -> None:
    from shype.cli import output

    if shown:
        output.table("", ("operation", "verdict", "when", "permission", "hook", "why"), [
            (row.operation.name, "finding: " * row.finding + row.verdict.value, row.when.value,
             " ".join(row.permissions), " ".join(_place(each) for each in row.checks) or "-",
             row.remark or row.reason or "; ".join(row.lasting))
            for row in shown
        ])
    for row in findings:
        for effect in row.open[:3]:
            print(f"{row.operation.name}: {effect.file}:{effect.line}: {effect.what} "
                  "without a check before it")
        for check in row.ignored:
            print(f"{row.operation.name}: {check.file}:{check.line}: "
                  f"nobody looks at the answer of {check.hook}")
    count = {word: sum(row.verdict.value == word for row in rows)
             for word in ("mediated", "partly", "unmediated", "absent")}
    print(f"Xen {tree.version or '(unknown version)'}: {len(rows)} operations: "
          + ", ".join(f"{number} {word}" for word, number in count.items())
          + f"; {sum(bool(row.reason) for row in rows)} of those need no further check; "
          f"{len(findings)} to look at")


def _place(check: Check) -> str:
    return f"{check.hook}@{check.file}:{check.line}"


def _json(row: Row) -> dict[str, object]:
    return {
        "operation": row.operation.name,
        "hypercall": row.operation.family.hypercall,
        "number": row.operation.number,
        "at": f"{row.place[0]}:{row.place[1]}" if row.place else None,
        "verdict": row.verdict.value,
        "when": row.when.value,
        "finding": row.finding,
        "permissions": list(row.permissions),
        "hooks": [_check(each) for each in row.checks],
        "unguarded": [_effect(each) for each in row.open],
        "silent": [_check(each) for each in row.silent],
        "ignored": [_check(each) for each in row.ignored],
        "lasting": list(row.lasting),
        "reason": row.reason,
        "remark": row.remark,
    }


def _check(check: Check) -> dict[str, object]:
    return {"hook": check.hook, "at": f"{check.file}:{check.line}", "default": check.default,
            "permissions": list(check.permissions)}


def _effect(effect: Effect) -> dict[str, object]:
    return {"at": f"{effect.file}:{effect.line}", "what": effect.what}
