"""`shype attest chain`: a VM's TPM, its host, and the policy in force there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.attest_host import read
from shype.cli.attest_verifier import VERIFIER, open_verifier

if TYPE_CHECKING:
    from shype.cli.types import Commands

_EPILOG = """\
VM and host are both enrolled here (the VM by `attest admit --vm`), and both
answer a fresh challenge.

example, on the verifier:
  shype attest challenge desk -o desk.challenge
  shype attest challenge xen1 -o xen1.challenge
in the VM, and on its host:
  shype attest quote --challenge desk.challenge -o desk.evidence
  shype attest quote --challenge xen1.challenge -o xen1.evidence
on the verifier again:
  shype attest chain --guest desk.evidence --host xen1.evidence --label desk
exit codes: 0 all of it holds, 1 it does not, 2 bad input
"""


def add(verbs: Commands) -> None:
    """Register the command."""
    chain = verbs.add_parser(
        "chain", help="appraise a VM with its host", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Say whether a VM's evidence is by the TPM that its host has given to a VM of "
        "a label, and whether that host is trusted.")
    chain.add_argument("--guest", type=Path, required=True, metavar="FILE",
                       help="what `shype attest quote` wrote in the VM")
    chain.add_argument("--host", type=Path, required=True, metavar="FILE",
                       help="what it wrote on the VM's host")
    chain.add_argument("--label", metavar="LABEL", help="what the VM must carry (default: any)")
    chain.add_argument("--state", type=Path, default=VERIFIER, metavar="DIR",
                       help="the verifier's directory (default %(default)s)")
    chain.add_argument("--json", action="store_true", help="print JSON")
    chain.set_defaults(run=_chain)


def _chain(args: argparse.Namespace) -> int:
    from shype.attest.chain import follow

    found = follow(open_verifier(args), _evidence(args.guest), _evidence(args.host),
                   label=args.label)
    if args.json:
        output.print_json(found.to_json())
        return 0 if found.holds else 1
    policy = found.policy
    output.table("", ["chain", ""], [
        ["holds", "yes" if found.holds else "NO"],
        *(["because", str(one)] for one in found.broken),
        ["guest", found.guest or "not known"],
        ["TPM", found.ek or "not known"],
        ["VM", f"{found.vm} ({found.uuid})" if found.vm else "not known"],
        ["label", found.label or "not known"],
        ["host", found.host or "not known"],
        ["policy", f"{policy.name} {policy.version} ({policy.bundle})" if policy else "not known"],
    ])
    return 0 if found.holds else 1


def _evidence(path: Path) -> bytes:
    """A file that has the form of evidence: which it is not is no finding about a VM."""
    from shype.attest import evidence
    from shype.base.errors import BadInput

    data = read(path)
    try:
        evidence.loads(data)
    except BadInput as error:
        raise BadInput("evidence.corrupt", f"{path}: {error.message}", error.fix) from error
    return data
