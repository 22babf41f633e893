"""`shype attest`: what a host must have measured, and whether it has."""

from __future__ import annotations

import argparse

from shype.cli import attest_reference
from shype.cli.types import Commands

_EPILOG = """\
examples:
  shype attest reference --bundle banks.shype --boot-dir copy-of-boot \\
    --efi BOOTX64.EFI -o banks.reference
"""


def add(commands: Commands) -> None:
    """Register the command."""
    attest = commands.add_parser(
        "attest", help="what a host has measured, and must have", epilog=_EPILOG,
        description="Attestation: what a host has measured, and what it must have.",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = attest.add_subparsers(dest="way", required=True, metavar="COMMAND")
    attest_reference.add(ways)
