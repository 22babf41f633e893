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
example, the steps in order; V: on the verifier, H: on the host, A: the author
  V  shype attest init --signer author.pub
  H  shype attest ek --id
  V  shype attest admit xen1 --reference xen-hosts --ek ID
  V  shype attest serve --listen 0.0.0.0:8443 --tls-cert v.crt --tls-key v.key
  H  shype attest enrol xen1 --verifier https://verifier:8443 --ca ca.crt
or by files, without `serve`:
  H  shype attest enrol xen1 -o request.json
  V  shype attest enrolment request.json -o challenge.json
  H  shype attest enrol xen1 --challenge challenge.json -o answer.json
  V  shype attest enrolment answer.json
firmware, of one host of each model:
  V  shype attest challenge xen1 --observe -o challenge.json
  H  shype attest quote --challenge challenge.json -o evidence.json
  V  shype attest observe evidence.json -o server.firmware
for each new policy, hypervisor or kernel:
  A  shype attest reference --bundle banks.shype --boot-dir copy-of-boot \\
       --efi BOOTX64.EFI -o banks.boots
  A  shype attest sign xen-hosts --bundle banks.shype --boot banks.boots \\
       --firmware server.firmware --agent src/shype --key author.key
  V  shype attest publish xen-hosts.ref
again and again (the unit shype-attest.service does):
  H  shype attest renew
or by files:
  V  shype attest challenge xen1 -o challenge.json
  H  shype attest quote --challenge challenge.json -o evidence.json
  V  shype attest verify evidence.json -o result
  H  shype attest accept result
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
