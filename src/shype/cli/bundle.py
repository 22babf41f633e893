"""`shype bundle`: look into the file that `shype build` makes, and unpack it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.base.errors import ShypeError
    from shype.cli.types import Commands
    from shype.policy.envelope import Envelope
    from shype.policy.manifest import Bundle

_EPILOG = """\
example:
  shype bundle show banks.shype --keys author.pub
  shype bundle extract /etc/shype/policy.shype -o /boot/shype
"""
_SHOW = """\
example: shype bundle show banks.shype --keys author.pub
exit codes: 0 signed by a key of --keys (or --keys not given: nothing is said
about signatures), 1 not signed by one, or altered, 2 the file is no bundle
"""
_EXTRACT = """\
example: shype bundle extract /etc/shype/policy.shype -o /boot/shype

Writes policy.bin (for the boot entry), policy.cil (the same, to read: every
rule with its reason), policy.json and manifest.json, after checking signature
and digests.
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "bundle", help="show or unpack a compiled policy", epilog=_EPILOG, formatter_class=raw,
        description="Show or unpack the bundle that `shype build` makes.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "show", help="what is in it, and who signed it", epilog=_SHOW, formatter_class=raw,
        description="Show policy, target, digests and signatures of a bundle.")
    show.add_argument("file", metavar="FILE", type=Path, help="the bundle")
    show.add_argument("--keys", metavar="PATH", type=Path,
                      help="the trusted keys: a directory, or one NAME.pub")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)
    extract = verbs.add_parser(
        "extract", help="write its files to a directory", epilog=_EXTRACT, formatter_class=raw,
        description="Write the files of a bundle to a directory.")
    extract.add_argument("file", metavar="FILE", type=Path, help="the bundle")
    extract.add_argument("-o", "--output", required=True, metavar="DIR", type=Path,
                         help="the directory to write (new, empty, or of an earlier extract)")
    extract.add_argument("--keys", metavar="PATH", type=Path,
                         help="the trusted keys: a directory, or one NAME.pub "
                         "(default: those of this host, /etc/shype/keys)")
    extract.add_argument("--unverified", action="store_true",
                         help="whoever signed it, if anybody: to look at it, not to boot it")
    extract.add_argument("--json", action="store_true", help="print JSON")
    extract.set_defaults(run=_extract)


def _show(args: argparse.Namespace) -> int:
    from shype.policy import signed

    envelope = signed.read(args.file)
    bundle, _ = signed.opened(envelope, args.file)
    problem = _problem(args, envelope) if args.keys is not None else None
    verdict = (
        ("not checked (give --keys)" if envelope.signatures else "none: every host refuses it")
        if args.keys is None
        else "valid" if problem is None else f"NOT VALID: {problem.message} [{problem.id}]"
    )
    if args.json:
        output.print_json({
            "file": str(args.file),
            "signatures": [s.keyid for s in envelope.signatures],
            "valid": None if args.keys is None else problem is None,
            "problem": problem and problem.to_json(),
            "manifest": bundle.manifest.to_json(),
        })
    else:
        rows = [["signed by", s.keyid] for s in envelope.signatures] or [["signed by", "nobody"]]
        rows.append(["signature", verdict])
        output.table("", ["bundle", str(args.file)], [*_rows(bundle), *rows])
    return 0 if problem is None else 1


def _problem(args: argparse.Namespace, envelope: Envelope) -> ShypeError | None:
    from shype.base.errors import BadInput
    from shype.host.trust import require_trusted

    try:
        require_trusted(envelope, args.file, args.keys)
    except BadInput as error:
        if error.id.startswith("bundle."):
            return error
        raise  # it is the keys that are wrong
    return None


def _rows(bundle: Bundle) -> list[list[str]]:
    manifest = bundle.manifest
    done = manifest.validation
    return [
        ["policy", f"{manifest.policy.name} {manifest.policy.version}"],
        ["source", manifest.policy.source],
        ["target", manifest.target],
        ["labels", f"{len(manifest.labels)} for VMs, and {manifest.dom0.label} for dom0"],
        ["digest", manifest.digest],
        *([name, digest] for name, digest in manifest.files.items()),
        ["validated", "no" if done is None else
         f"{done.pairs} pairs, {done.checks} decisions, with {done.reader}"],
    ]


def _extract(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic
    from shype.host.trust import KEYS, require_trusted
    from shype.policy import signed

    envelope = signed.read(args.file)
    if not args.unverified:
        require_trusted(envelope, args.file, args.keys or KEYS)
    bundle, contents = signed.opened(envelope, args.file)
    files = contents.all_files()
    if args.output.is_dir() and {p.name for p in args.output.iterdir()} - set(files):
        raise BadInput(
            "bundle.out", f"{args.output} holds other files than those of a bundle",
            "choose a directory of its own with -o",
        )
    for name, data in files.items():
        write_atomic(args.output / name, data)
    if args.json:
        output.print_json({
            "directory": str(args.output), "files": sorted(files), "verified": not args.unverified,
            "digest": bundle.manifest.digest,
        })
    else:
        output.table("", ["written", ""], [["directory", str(args.output)], *_rows(bundle)])
    return 0
