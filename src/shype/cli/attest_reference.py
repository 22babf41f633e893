"""`shype attest reference`: what a good boot must have measured, from what is booted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.types import Commands

if TYPE_CHECKING:
    from shype.attest.boot import Machine
    from shype.policy.manifest import Bundle

_EPILOG = """\
Computed, not read off a host: GRUB's whole boot is gone through, with a copy of
the host's /boot. A policy may be booted as the good one, on trial, or after a
trial that failed: all three are in the result, for every other policy that is
in the copy or given by a further --bundle.

PCR 4: the EFI programs, 8: what GRUB did (command lines included), 9: the files
it read (hypervisor, kernel, RAM disk, policy). PCR 0 to 3 and 5 to 7 belong to
the firmware: the verifier keeps what they were when the host was enrolled.

example:
  shype attest reference --bundle banks.shype --boot-dir copy-of-boot \\
    --efi BOOTX64.EFI --device hd0,gpt2 -o banks.boots
exit codes: 0 done; 2 something cannot be predicted (it says what)
"""


def add(ways: Commands) -> None:
    """Register the command below `shype attest`."""
    command = ways.add_parser(
        "reference", help="compute what a good boot must have measured", epilog=_EPILOG,
        description="Compute what a good boot must have measured.",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sources(command, required=True)
    command.add_argument("--output", "-o", type=Path, metavar="FILE", help="where to write it")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_reference)


def add_sources(command: argparse.ArgumentParser, *, required: bool) -> None:
    """The options that say what is booted (`sources`)."""
    command.add_argument("--bundle", type=Path, required=required, action="append", metavar="FILE",
                         help="the signed bundle that is to be booted (may be given again)")
    command.add_argument("--keys", type=Path, default=Path("/etc/shype/keys"), metavar="DIR",
                         help="the keys that are trusted (default %(default)s)")
    command.add_argument("--boot-dir", type=Path, required=required, metavar="DIR",
                         help="a copy of /boot, after `shype host install`")
    command.add_argument("--efi", type=Path, required=required, action="append", metavar="FILE",
                         help="each EFI program that is started, in order; the last is GRUB")
    command.add_argument("--device", default="hd0,gpt2", metavar="NAME",
                         help="GRUB's name for the partition of /boot (default %(default)s)")


def sources(args: argparse.Namespace) -> tuple[Machine, list[tuple[Bundle, bytes]]]:
    """What is booted: the machine, and each bundle with its module.

    Raises BadInput (``attest.file``, ``reference.*``, ``bundle.*``, ``key.*``).
    """
    from shype.attest.boot import MAX_FILE, Machine
    from shype.attest.grub import image
    from shype.base.errors import BadInput
    from shype.cli.attest_host import read
    from shype.host.install import trial

    if not args.efi or not args.bundle:
        raise BadInput("reference.sources", "a copy of /boot alone does not say what is booted",
                       "give --bundle and --efi too")
    machine = Machine(
        args.boot_dir, tuple(image.read(read(path, MAX_FILE), str(path))
                             for path in args.efi), args.device)
    return machine, [trial.read_trusted(path, args.keys)[1:] for path in args.bundle]


def _reference(args: argparse.Namespace) -> int:
    from shype.attest import boot_reference
    from shype.base.files import write_atomic
    from shype.host.install import trial

    machine, bundles = sources(args)
    ids = [trial.policy_id(bundle) for bundle, _ in bundles]
    references = [
        boot_reference.BootReference.of(
            machine.ways(trial.policy_id(bundle), module, ids), policy=bundle.manifest.policy.name,
            version=bundle.manifest.policy.version, bundle=bundle.manifest.digest,
            module=bundle.manifest.files["policy.bin"])
        for bundle, module in bundles]
    if args.output is not None:
        write_atomic(args.output, boot_reference.dumps(references))
    if args.json:
        output.print_json({"boot": [one.to_json() for one in references]})
        return 0
    for one in references:
        output.table(f"{one.policy} {one.version}", ("BOOT", "PCR 4", "PCR 8", "PCR 9"), [
            (one_boot.kind.value + (f" ({one_boot.other})" if one_boot.other else ""),
             *(value[:16] for _, value in sorted(one_boot.pcrs.items())))
            for one_boot in one.boots])
    if args.output is not None:
        print(f"written: {args.output}")
    return 0
