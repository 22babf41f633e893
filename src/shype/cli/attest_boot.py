"""`shype attest boot`: which boot a host's registers are of, and what was booted instead."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.attest_host import read
from shype.cli.attest_reference import add_sources, sources
from shype.cli.types import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shype.attest.boot_reference import BootReference

_EPILOG = """\
Compares the registers 4, 8 and 9 with the boots that `shype attest reference`
has computed. With --boot-dir (a copy of the host's /boot as it is now) and
--bundle, it looks whether that is what was booted, and lists each command and
file that the good boot does not have.

Evidence is taken as it is: `shype attest verify` says whether it is genuine.

example:
  shype attest boot --boots banks.boots
  shype attest boot --boots banks.boots --evidence evidence.json \\
    --bundle other.shype --boot-dir copy-of-boot --efi BOOTX64.EFI
exit codes: 0 a known boot; 1 not
"""


def add(ways: Commands) -> None:
    """Register the command below `shype attest`."""
    command = ways.add_parser(
        "boot", help="say which boot a host's registers are of", epilog=_EPILOG,
        description="Say which boot a host's registers are of, or what was booted instead.",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--boots", type=Path, required=True, metavar="FILE",
                         help="what `shype attest reference` has computed")
    command.add_argument("--evidence", type=Path, metavar="FILE",
                         help="a host's evidence (default: this machine's TPM)")
    add_sources(command, required=False)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_boot)


def _boot(args: argparse.Namespace) -> int:
    from shype.attest import boot_reference
    from shype.attest.boot import COMPUTED

    pcrs = _registers(args.evidence, COMPUTED)
    known = boot_reference.loads(read(args.boots), str(args.boots))
    for one in known:
        boot = one.matching(pcrs)
        if boot is not None:
            kind = boot.kind.value + (f" ({boot.other})" if boot.other else "")
            if args.json:
                output.print_json({"policy": one.policy, "version": one.version, "boot": kind})
            else:
                print(f"{one.policy} {one.version}, {kind}")
            return 0
    nearest = min(known, key=lambda one: len(one.wrong(pcrs)))
    instead, differences = _instead(args, nearest, pcrs)
    wrong = nearest.wrong(pcrs)
    if args.json:
        output.print_json({"boot": None, "wrong": list(wrong), "instead": instead,
                           "differences": list(differences)})
        return 1
    print(f"no known boot: PCR {', '.join(map(str, wrong))}")
    if instead is not None:
        print(f"it is {instead}; not as in the good boot of {nearest.policy} {nearest.version}:")
        for line in differences:
            print(f"  {line}")
    elif args.boot_dir is not None:
        print("nor is it what that copy of /boot says")
    return 1


def _registers(evidence: Path | None, wanted: Sequence[int]) -> dict[int, bytes]:
    from shype.attest import evidence as documents
    from shype.attest.tpm import Tpm

    if evidence is not None:
        return dict(documents.loads(read(evidence)).pcrs)
    with Tpm() as tpm:
        return tpm.pcr_read(wanted)


def _instead(
    args: argparse.Namespace, nearest: BootReference, pcrs: dict[int, bytes]
) -> tuple[str | None, tuple[str, ...]]:
    """What was booted, if it is a boot of the given bundles by the given copy of /boot."""
    from shype.attest.boot import found
    from shype.host.install import trial

    if args.boot_dir is None:
        return None, ()
    machine, bundles = sources(args)
    ids = [trial.policy_id(bundle) for bundle, _ in bundles]
    for id, (bundle, module) in zip(ids, bundles, strict=True):
        way = found(machine.ways(id, module, ids), pcrs)
        if way is not None:
            ref = bundle.manifest.policy
            return f"{ref.name} {ref.version}: {way}", nearest.differences(way.events)
    return None, ()
