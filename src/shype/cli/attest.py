"""`shype attest`: what a host runs, proved to somebody else."""

from __future__ import annotations

import argparse

from shype.cli import (
    attest_boot,
    attest_chain,
    attest_host,
    attest_reference,
    attest_renew,
    attest_sign,
    attest_verifier,
)
from shype.cli.types import Commands

_EPILOG = """\
example, on the verifier, once:
  shype attest init --signer author.pub
  shype attest admit xen1 --reference xen-hosts --ek ID   # ID: attest ek, there
  shype attest publish xen-hosts.ref
  shype attest serve --listen 0.0.0.0:8443 --tls-cert v.crt --tls-key v.key
on the author's machine, for each new policy, hypervisor or kernel:
  shype attest reference --bundle banks.shype --boot-dir copy-of-boot \\
    --efi BOOTX64.EFI -o banks.boots
  shype attest sign xen-hosts --bundle banks.shype --boot banks.boots \\
    --firmware server.firmware --agent src/shype --key author.key
on the host:
  shype attest enrol xen1 --verifier https://verifier:8443 --ca ca.crt   # once
  shype attest renew                                # the unit does it regularly
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    group = commands.add_parser(
        "attest", help="prove what a host runs, and check such proofs", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Attestation: a host's TPM proves which hypervisor, kernel, policy and agent "
        "it runs; a verifier on another machine compares that with reference values and signs "
        "what it makes of it. docs/how-to/attestation.md has it all.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    attest_host.add(verbs)
    attest_renew.add(verbs)
    attest_verifier.add(verbs)
    attest_reference.add(verbs)
    attest_chain.add(verbs)
    attest_boot.add(verbs)
    attest_sign.add(verbs)
