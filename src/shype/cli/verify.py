"""`shype verify`: source, binary, loaded policy and real guests, compared with each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shype.cli.types import Commands
    from shype.host.verify.compare import Report
    from shype.host.verify.table import Difference, Row
    from shype.policy.contents import Contents
    from shype.policy.manifest import Bundle

#: Differences that are shown; --json has all.
_SHOWN = 40

_EPILOG = """\
Four sides answer the same questions, and each pair of them is compared:
  source  the policy as written, decided by the security server
  binary  policy.bin as compiled, read back from the file
  loaded  what the running hypervisor says it would decide, asked in dom0
  guests  what real guests could do to each other, tried in the lab

  shype verify POLICY                 source and binary, on the author's machine
  shype verify                        source, binary and loaded, in dom0
  shype verify --lab NAME [POLICY]    all four; starts the lab if it must

POLICY is a policy file or a bundle. `not asked` counts questions that one of
the two sides was not asked: they neither agree nor differ.

example:
  shype verify examples/banks.yaml
  shype verify --lab try examples/banks.yaml

exit codes: 0 no difference, 1 a difference, 2 bad input, 3 could not be asked
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "verify",
        help="is what was meant compiled, loaded and enforced?",
        description="Compare the policy as written, the compiled policy, the policy that the "
        "hypervisor has loaded, and what guests can really do; print every difference.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("policy", nargs="?", type=Path, metavar="POLICY",
                         help="a policy file or a bundle (in dom0: --bundle)")
    command.add_argument("--lab", metavar="NAME", help="in this lab, with its guests")
    command.add_argument("--target", metavar="TARGET", default="xen-4.17",
                         help="compile a policy file for this hypervisor (default %(default)s)")
    command.add_argument("--twins", action="store_true",
                         help="in the lab: also two guests of each label with each other")
    command.add_argument(
        "--bundle", type=Path, default=Path("/etc/shype/policy.shype"), metavar="FILE",
        help="in dom0: the signed bundle (default %(default)s)")
    command.add_argument(
        "--keys", type=Path, default=Path("/etc/shype/keys"), metavar="DIR",
        help="in dom0: the keys that this host trusts (default %(default)s)")
    command.add_argument("--every", action="store_true",
                         help="all answers, not only where two sides differ")
    command.add_argument("--json", action="store_true", help="one JSON document")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.lab is not None:
        report = _lab(args)
    elif args.policy is not None:
        report = _author(args)
    else:
        report = _host(args)
    if args.json:
        output.print_json(report.to_json(every=args.every))
    else:
        _show(report, args.every)
    return 1 if report.different else 0


def _author(args: argparse.Namespace) -> Report:
    from shype.lab.verification import source_and_binary

    return source_and_binary(*_read(args.policy, args.target))


def _read(path: Path, target: str) -> tuple[Bundle, Contents]:
    """The bundle at ``path``, or the one built from the policy file there."""
    from shype.lab import handover
    from shype.policy.signed import SUFFIX

    if path.is_dir() or path.suffix == SUFFIX:
        return handover.read(path)
    from shype.compile.flask.build import make
    from shype.policy.loader import load
    from shype.policy.manifest import assemble

    contents = make(load(path).policy, target=target, validate=False)[1]
    return assemble(contents, path), contents


def _host(args: argparse.Namespace) -> Report:
    from datetime import date

    from shype.base.errors import BadInput
    from shype.decision.security_server import SecurityServer
    from shype.host.drivers.xen.access import Questions
    from shype.host.drivers.xen.driver import XenHypervisor, require_xen
    from shype.host.drivers.xen.flask import Flask
    from shype.host.trust import require_trusted
    from shype.host.verify import binary, compare
    from shype.policy import signed

    require_xen()
    envelope = signed.read(args.bundle)
    require_trusted(envelope, args.bundle, args.keys)
    bundle, contents = signed.opened(envelope, args.bundle)
    runs = XenHypervisor().target()
    if bundle.manifest.target != runs:
        raise BadInput(
            "bundle.wrong-target",
            f"{args.bundle} was built for {bundle.manifest.target}, and this hypervisor is {runs}",
            f"build it again with --target {runs}",
        )
    flask = Flask()
    with Questions() as asked, output.progress("asking the hypervisor"):
        return compare.loaded(
            SecurityServer(bundle.policy, today=date.today()), bundle.manifest,
            binary.read(contents.files["policy.bin"]), asked, flask.boolean,
            enforcing=flask.enforcing() is True,
        )


def _lab(args: argparse.Namespace) -> Report:
    import tempfile

    from shype.cli.lab import bundle_of
    from shype.lab import rundir
    from shype.lab.host import Lab
    from shype.lab.verification import all_four

    twins = None if args.twins else ()
    given = None if args.policy is None else _read(args.policy, args.target)
    if args.policy is None or any(r.name == args.lab for r in rundir.running()):
        return all_four(Lab.attach(args.lab), given, twins=twins, progress=output.note)
    with tempfile.TemporaryDirectory(prefix="shype-verify-") as work:
        bundle = bundle_of(str(args.policy), Path(work) / "bundle")
        with output.progress(f"starting lab {args.lab}"):
            lab = Lab.up(bundle=bundle, name=args.lab)
    with lab:
        return all_four(lab, None, twins=twins, progress=output.note)


def _show(report: Report, every: bool) -> None:
    output.table("", ("compared", "questions", "different", "not asked"), [
        (f"{count.one} - {count.other}",
         *((str(count.asked), str(count.different)) if count.asked else ("-", "-")),
         str(count.open))
        for count in report.counts
    ])
    found = [_difference(item) for item in report.differences]
    found += [_row(row) for row in report.rows if row.different]
    if found:
        print()
        _table(found[:_SHOWN])
        if len(found) > _SHOWN:
            print(f"and {len(found) - _SHOWN} more (--json has all)")
    if every:
        print()
        _table([_row(row) for row in report.rows])
    if found:
        print("\nthere are differences")
        return
    sides = dict.fromkeys(side for count in report.counts for side in (count.one, count.other))
    asked = {side for c in report.counts if c.asked for side in (c.one, c.other)}
    silent = [str(side) for side in sides if side not in asked]
    print("\nno difference" + (f" ({' and '.join(silent)} not asked)" if silent else ""))


def _table(rows: Sequence[Sequence[str]]) -> None:
    columns = ("subject", "object", "what", "source", "binary", "loaded", "guests", "rule")
    output.table("", columns, [[output.said(cell) for cell in row] for row in rows])


def _difference(item: Difference) -> tuple[str, ...]:
    from shype.host.verify.table import Side

    said = (item.said.get(side, "-") for side in Side)
    return item.subject, item.target, item.what, *said, ", ".join(item.rules)


def _row(row: Row) -> tuple[str, ...]:
    from shype.host.verify.table import Side

    subject, object, operation = row.question
    return subject, object, operation.value, *(row.of(s) for s in Side), ", ".join(row.rules)
