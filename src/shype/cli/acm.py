"""`shype import acm` and `shype export acm`: sHype's own policies, in and out."""

from __future__ import annotations

import argparse
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from shype.base.errors import BadInput

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.policy.acm.importer import Imported

_IMPORT_EPILOG = """\
example:
  shype import acm client_v1-security_policy.xml -o client.yaml
  shype import acm chwall_ste-security_policy.xml \\
      chwall_ste-security_label_template.xml -o p.yaml

The new policy decides as the old one did, or denies more where a finding says
so; docs/how-to/from-acm.md is the way from one to the other,
docs/reference/acm.md has the findings. --json prints the findings and which old
name has become which new one.
exit codes: 0 imported, nothing found; 1 imported, with findings; 2 cannot be
read, or OUT is there and says something else
"""


_EXPORT_EPILOG = """\
example:
  shype export acm examples/banks.yaml -o banks-security_policy.xml

Whatever ACM cannot say is reported (docs/reference/acm.md). If ACM would then
permit more than the policy, nothing is written, unless --lossy is given.
exit codes: 0 exported whole; 1 exported, with findings; 2 bad policy, ACM would
permit more, or OUT is there and is no XML
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    imports = commands.add_parser(
        "import",
        help="read a policy of another system: sHype's own XML (Xen's ACM)",
        description="Read a policy of another system and write it as a policy of shype.",
        epilog="example:\n  shype import acm client_v1-security_policy.xml -o client.yaml",
        formatter_class=RawDescriptionHelpFormatter,
    )
    acm = imports.add_subparsers(metavar="SYSTEM", required=True).add_parser(
        "acm",
        help="sHype, Xen's Access Control Module (2005 to 2011)",
        description="Read a policy of sHype, Xen's Access Control Module, of any generation "
        "(2005 to 2011), report what it left unsaid or wrong, and write a shype policy that "
        "decides the same.",
        epilog=_IMPORT_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    acm.add_argument(
        "files", metavar="FILE", type=Path, nargs="+",
        help="the policy (XML); of 2005: the policy and its label template",
    )
    acm.add_argument(
        "-o", "--output", required=True, metavar="OUT", type=Path, help="the policy to write"
    )
    acm.add_argument("--json", action="store_true", help="print findings and names as JSON")
    acm.set_defaults(run=_import)

    exports = commands.add_parser(
        "export",
        help="write a policy for another system: sHype's own XML (Xen's ACM)",
        description="Write a policy of shype for another system.",
        epilog="example:\n  shype export acm examples/banks.yaml -o banks-security_policy.xml",
        formatter_class=RawDescriptionHelpFormatter,
    )
    acm = exports.add_subparsers(metavar="SYSTEM", required=True).add_parser(
        "acm",
        help="sHype, Xen's Access Control Module (the schema of 2007 to 2011)",
        description="Write a policy of shype as XML of Xen's Access Control Module, and report "
        "what that cannot say.",
        epilog=_EXPORT_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    acm.add_argument("file", metavar="FILE", type=Path, help="the policy file (YAML)")
    acm.add_argument(
        "-o", "--output", required=True, metavar="OUT", type=Path, help="the XML to write"
    )
    acm.add_argument(
        "--lossy", action="store_true",
        help="write it even if ACM would permit more than the policy",
    )
    acm.add_argument("--json", action="store_true", help="print the findings as JSON")
    acm.set_defaults(run=_export)


def _import(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic
    from shype.cli import output
    from shype.policy.acm.importer import import_files

    done = import_files(args.files)
    text = done.text.encode()
    if _content(args.output) not in (b"", text):
        # An imported policy is given its VMs and resources by hand: that work is not undone.
        raise BadInput(
            "acm.out", f"{args.output} is there and says something else",
            "choose another -o OUT, or delete that file",
        )
    write_atomic(args.output, text)
    if args.json:
        output.print_json({
            "policy": {"name": done.policy.name, "version": done.policy.version},
            "file": str(args.output), "generation": done.generation,
            "findings": [finding.to_json() for finding in done.findings],
            "names": {kind: dict(names) for kind, names in done.sketch.mapping.items()},
        })
    else:
        _print(done, args.output)
    return 1 if done.findings else 0


def _content(path: Path) -> bytes:
    """What is in the file; none of a device, to which anything may be written."""
    return path.read_bytes() if path.is_file() else b""


def _print(done: Imported, path: Path) -> None:
    for finding in done.findings:
        print(finding)
    policy = done.policy
    counts = (
        (len(policy.labels), "labels"), (len(policy.coalitions), "coalitions"),
        (len(policy.walls), "conflict sets"), (len(policy.resource_labels), "resource labels"),
        (len(done.findings), "findings"),
    )
    counted = ", ".join(f"{count} {noun if count != 1 else noun[:-1]}" for count, noun in counts)
    print(f"{path}: policy {policy.name} {policy.version}: {counted}")


def _export(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic
    from shype.cli import output
    from shype.policy import loader
    from shype.policy.acm.exporter import export

    policy = loader.load(args.file).policy
    done = export(policy, lossy=args.lossy)
    old = _content(args.output)
    if old and not old.lstrip().startswith(b"<"):
        raise BadInput("acm.out", f"{args.output} is there and is no XML", "choose another -o OUT")
    write_atomic(args.output, done.text.encode())
    if args.json:
        output.print_json({
            "policy": {"name": policy.name, "version": policy.version},
            "file": str(args.output), "permits_more": bool(done.lossy),
            "findings": [finding.to_json() for finding in done.findings],
        })
    else:
        for finding in done.findings:
            print(finding)
        count = len(done.findings)
        more = "; ACM permits more than the policy" if done.lossy else ""
        print(f"{args.output}: policy {policy.name} {policy.version}: "
              f"{count} finding{'' if count == 1 else 's'}{more}")
    return 1 if done.findings else 0
