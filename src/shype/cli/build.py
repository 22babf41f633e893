"""`shype build` and `shype tables`: from a policy file to what the hypervisor loads."""

from __future__ import annotations

import argparse
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.compile.flask.tables import Tables
    from shype.policy.ed25519 import PrivateKey
    from shype.policy.manifest import Manifest
    from shype.policy.model import Policy

_BUILD_EPILOG = """\
example:
  shype keys new author
  shype build examples/banks.yaml --target xen-4.17 --key author.key -o b.shype

The file holds the policy, the compiled policy for the hypervisor, and the
digests of both, signed: a host that trusts author.pub loads it, and no other
(see `shype bundle --help`). It is replaced whole or, when anything fails, not
at all.

The binary is then read back with SETools and compared with the policy: for
every pair of labels and every mechanism. A difference fails the build.
exit codes: 0 built, 1 an assertion of the policy is violated, 2 the policy or
an argument is wrong, 3 anything else
"""

_TABLES_EPILOG = """\
example:
  shype tables import xen-4.23.0 -o xen-4.23.json
  shype build examples/banks.yaml --target xen-4.23 --tables xen-4.23.json \\
      --key author.key -o banks.shype

A hypervisor refuses a policy whose classes and permissions differ from its own,
so each Xen release has its table. Those of the targets in `shype tables list`
come with shype.
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    build = commands.add_parser(
        "build",
        help="compile a policy file for a hypervisor and validate the result",
        description="Compile a policy file into a signed bundle that an enforcing host loads.",
        epilog=_BUILD_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    build.add_argument("file", metavar="FILE", type=Path, help="the policy file (YAML)")
    build.add_argument(
        "--target", required=True, metavar="TARGET", help="the hypervisor, for example xen-4.17"
    )
    build.add_argument(
        "-o", "--output", required=True, metavar="FILE", type=Path,
        help="the bundle to write (FILE.shype)",
    )
    signers = build.add_mutually_exclusive_group()
    signers.add_argument(
        "--key", action="append", metavar="KEY", type=Path,
        help="sign with this key, made by `shype keys new`; may be given several times",
    )
    signers.add_argument(
        "--unsigned", action="store_true", help="for experiments: every host refuses the result"
    )
    build.add_argument(
        "--tables", metavar="TABLES", type=Path,
        help="tables of the target, made by `shype tables import` (default: those shipped)",
    )
    build.add_argument(
        "--no-validate", action="store_true",
        help="do not compare the binary with the policy (on a machine without SETools)",
    )
    build.add_argument("--json", action="store_true", help="print the manifest as JSON")
    build.set_defaults(run=_build)
    _add_tables(commands)


def _add_tables(commands: Commands) -> None:
    tables = commands.add_parser(
        "tables",
        help="the classes and permissions of each Xen release",
        description="List, show and import the tables of Xen releases.",
        epilog=_TABLES_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    verbs = tables.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the targets that shype knows")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)
    show = verbs.add_parser("show", help="the classes, permissions and initial SIDs of a target")
    show.add_argument("target", metavar="TARGET", help="for example xen-4.17")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)
    imports = verbs.add_parser("import", help="read the tables of a Xen source tree")
    imports.add_argument("tree", metavar="XEN_TREE", type=Path, help="the tree's top directory")
    imports.add_argument(
        "-o", "--output", required=True, metavar="FILE", type=Path, help="the file to write"
    )
    imports.add_argument("--json", action="store_true", help="print a summary as JSON")
    imports.set_defaults(run=_import)


def _build(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic
    from shype.compile.flask import build, tables
    from shype.policy import loader, signed

    keys = _keys(args)
    _check_out(args.output)
    chosen = tables.load_file(args.tables) if args.tables else None
    loaded = loader.load(args.file)
    for warning in loaded.warnings:
        output.note(str(warning))
    if not _asserted(loaded.policy, as_json=args.json):
        return 1
    manifest, contents = build.make(
        loaded.policy, target=args.target, validate=not args.no_validate, tables=chosen,
    )
    write_atomic(args.output, signed.seal(contents, keys))
    if manifest.validation is None:
        output.note(
            "shype: warning: the binary was not compared with the policy (--no-validate)"
        )
    if not keys:
        output.note("shype: warning: the bundle is not signed, and every host refuses it")
    if args.json:
        output.print_json(manifest.to_json())
    else:
        _print(manifest, args.output, keys)
    return 0


def _asserted(policy: Policy, *, as_json: bool) -> bool:
    """Whether the policy's assertions hold; if not, shows what violates them."""
    from shype.cli import proving

    results = proving.proved(policy, policy.assertions)
    for result in results:
        for line in proving.lines(result):
            output.note(line)
    holds = all(result.holds for result in results)
    if not holds:
        output.note(f"shype: not built: {proving.counted(results)}")
        if as_json:
            output.print_json({
                "built": False,
                "findings": [finding.to_json() for finding in proving.findings(results)],
                "assertions": [result.to_json() for result in results],
            })
    return holds


def _keys(args: argparse.Namespace) -> list[PrivateKey]:
    from shype.base.errors import BadInput
    from shype.cli.keys import read_private

    if not args.key and not args.unsigned:
        raise BadInput(
            "build.no-key", "no --key is given, and a host loads no bundle that is not signed",
            f"shype keys new author; shype build {args.file} --target {args.target} "
            f"--key author.key -o {args.output} (or --unsigned, for an experiment)",
        )
    return [read_private(path) for path in args.key or ()]


def _check_out(out: Path) -> None:
    """Only an earlier bundle is replaced, and nothing is compiled in vain."""
    from shype.base.errors import BadInput
    from shype.policy import signed

    try:
        signed.read(out)
    except BadInput as error:
        if error.id != "bundle.missing":
            raise BadInput(
                "build.out", f"{out} is there and is no bundle", "choose another -o FILE.shype"
            ) from error


def _print(manifest: Manifest, file: Path, keys: list[PrivateKey]) -> None:
    done = manifest.validation
    rows = [
        ["policy", f"{manifest.policy.name} {manifest.policy.version}"],
        ["target", manifest.target],
        ["bundle", str(file)],
        *([["signed by", key.public.id] for key in keys] or [["signed by", "nobody"]]),
        ["labels", f"{len(manifest.labels)} for VMs, and {manifest.dom0.label} for dom0"],
        ["digest", manifest.digest],
        ["validated", "no" if done is None else
         f"{done.pairs} pairs, {done.checks} decisions, with {done.reader}"],
    ]
    output.table("", ["built", ""], rows)


def _list(args: argparse.Namespace) -> int:
    from shype.compile.flask import tables

    known = [tables.load(target) for target in tables.shipped()]
    if args.json:
        output.print_json([_summary(item) for item in known])
        return 0
    output.table(
        "", ["target", "release", "classes", "permissions"],
        [
            [item.target, item.release, str(len(item.classes)),
             str(sum(map(len, item.classes.values())))]
            for item in known
        ],
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    from shype.compile.flask import tables

    item = tables.load(args.target)
    if args.json:
        output.print_json(item.to_json())
        return 0
    rows = [[name, " ".join(perms)] for name, perms in item.classes.items()]
    output.table(
        f"{item.target} (from {item.release})", ["class", "permissions"], rows
    )
    output.table("", ["initial SIDs"], [[" ".join(item.initial_sids)]])
    return 0


def _import(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic
    from shype.compile.flask import tables

    item = tables.import_tree(args.tree)
    write_atomic(args.output, item.dumps())
    if args.json:
        output.print_json(_summary(item))
    else:
        print(f"{item.target}: tables of Xen {item.release} written to {args.output}")
    return 0


def _summary(item: Tables) -> dict[str, object]:
    return {
        "target": item.target, "release": item.release, "classes": len(item.classes),
        "permissions": sum(map(len, item.classes.values())),
    }
