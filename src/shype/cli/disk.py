"""`shype disk`: with which label each disk was used, and how one is freed of it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import add_options, open_agent
from shype.cli.host import lock_option, show

if TYPE_CHECKING:
    from shype.cli.types import Commands

_EPILOG = """\
What VMs wrote stays on a disk. So a disk that was used with one label is
refused with any other, until it has been wiped.

examples:
  shype disk list                   # which label each disk was last used with
  shype disk wipe /dev/vg0/scratch  # zeros over all of it; then it is anybody's

wipe destroys the content. It refuses a disk that anything uses. Killed half
way, the disk stays refused until it is wiped to the end.
exit codes: 0 done; 2 bad input, or the disk is in use; 3 it failed
"""


def add(commands: Commands) -> None:
    """Register the command."""
    raw = argparse.RawDescriptionHelpFormatter
    disk = commands.add_parser(
        "disk", help="show and wipe the labels that disks were used with",
        description="Show with which label each disk was last used, or wipe a disk.",
        epilog=_EPILOG, formatter_class=raw)
    ways = disk.add_subparsers(metavar="WAY", required=True)
    listing = ways.add_parser("list", help="the disks that are remembered",
                              epilog="example: shype disk list --json", formatter_class=raw)
    add_options(listing)
    listing.set_defaults(run=_list)
    wipe = ways.add_parser("wipe", help="overwrite a disk with zeros and forget its label",
                           epilog="example: shype disk wipe /dev/vg0/scratch", formatter_class=raw)
    add_options(wipe)
    wipe.add_argument("path", metavar="PATH", help="the file or block device")
    lock_option(wipe)
    wipe.set_defaults(run=_wipe)


def _list(args: argparse.Namespace) -> int:
    from shype.host.resources.registry import Registry

    known = Registry(open_agent(args).state).read()
    if args.json:
        show(args, {"disks": [{
            "key": key, "label": used.label, "path": used.path, "vm": used.vm,
            "wiping": used.wiping,
        } for key, used in sorted(known.items())]})
        return 0
    rows = [(used.path, used.label, used.vm, "being wiped" if used.wiping else "")
            for used in sorted(known.values(), key=lambda used: used.path)]
    output.table("", ("DISK", "LAST LABEL", "VM", "STATE"), rows)
    return 0


def _wipe(args: argparse.Namespace) -> int:
    from shype.host.resources.wipe import wipe

    shown = -1

    def progress(done: int, size: int) -> None:
        nonlocal shown
        percent = done * 100 // size
        if percent != shown and sys.stderr.isatty() and not args.json:
            shown = percent
            print(f"\r{percent:3} % of {size} bytes", end="", file=sys.stderr, flush=True)

    size = wipe(open_agent(args), args.path, progress=progress, lock_timeout=args.lock_timeout)
    if shown >= 0:
        print(file=sys.stderr)
    if args.json:
        show(args, {"wiped": args.path, "bytes": size})
    else:
        print(f"{args.path} holds {size} bytes of zeros, and no label")
    return 0
