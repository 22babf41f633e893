"""`shype permission-map`: what information each of Xen's permissions lets flow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands

_EPILOG = """\
read: information flows from the object to the subject; write: from the subject
to the object. How much: bulk, record, signal, trace. What they mean, and the
form of a map of your own: docs/reference/xen-permission-map.md.

The form `setools` is for SETools' information flow analysis, whose own map has
none of Xen's classes and then finds no flow at all:

examples:
  shype permission-map --xen 4.17
  shype permission-map --xen 4.17 --format setools > xen.map
  seinfoflow -p xenpolicy-4.17 -m xen.map -s isolated_domU_t -t domU_t -A

exit codes: 0 ok, 2 no such release, or permissions that the map does not know
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "permission-map",
        help="say what information each of Xen's permissions lets flow",
        description="Show the Xen permission map: for every FLASK class and permission of a Xen "
        "release the direction, mechanism and amount of information that it lets flow, with the "
        "reason and the file of the Xen source.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--xen", metavar="VERSION", help="the release (default: the newest)")
    command.add_argument(
        "--tables", metavar="TABLES", type=Path,
        help="tables of another release, made by `shype tables import`",
    )
    command.add_argument(
        "--map", metavar="FILE", type=Path, help="more entries, or other ones, in a TOML file"
    )
    command.add_argument(
        "--format", choices=("table", "json", "setools"), default="table",
        help="default: table",
    )
    command.add_argument("--json", action="store_true", help="the same as --format json")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.compile.flask import tables
    from shype.compile.flask.permissions import permission_map, setools_format

    if args.tables is not None:
        chosen = tables.load_file(args.tables)
    else:
        target = tables.shipped()[-1]
        if args.xen is not None:
            target = args.xen if args.xen.startswith("xen-") else f"xen-{args.xen}"
        chosen = tables.load(target)
    more = () if args.map is None else permission_map.read(args.map)
    known = permission_map.load(chosen.version, more)
    pairs = [(cls, name) for cls, names in chosen.classes.items() for name in names]
    known.require(pairs, f"the table of {chosen.target}")
    if args.format == "setools" and not args.json:
        sys.stdout.write(setools_format.text(known, chosen))
        return 0
    entries = [known.entries[pair] for pair in pairs]
    if args.json or args.format == "json":
        output.print_json({
            "target": chosen.target,
            "bandwidths": {
                band.value: {"weight": band.weight, "meaning": band.meaning}
                for band in permission_map.Bandwidth
            },
            "permissions": [entry.to_json() for entry in entries],
        })
        return 0
    output.table("", ("permission", "read", "write", "by", "why"), [
        (f"{entry.cls} {entry.permission}", entry.read.value if entry.read else "-",
         entry.write.value if entry.write else "-", entry.mechanism.value, entry.why)
        for entry in entries
    ])
    return 0
