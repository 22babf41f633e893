"""`shype hotplug`: a veto in Xen's hotplug scripts, for xl and other toolstacks."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import add_options, open_agent

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.resources.scripts import Script

_EPILOG = """\
xl and libvirt attach disks and networks without asking shype. With the veto
installed, Xen's own scripts ask first, and a refused device never comes up.

examples:
  shype hotplug install     # moves block and vif-bridge aside
  shype hotplug status
  shype hotplug remove      # Xen's own scripts are back

`block`, `vif` and `vif-up` are what the scripts call. Disks that QEMU serves
(qcow2) have no script: `shype devices` finds those.
exit codes: 0 done, permitted, or all installed; 1 refused, or not installed; 2
bad input; 3 something needed is not there
"""


def add(commands: Commands) -> None:
    """Register the command."""
    raw = argparse.RawDescriptionHelpFormatter
    hotplug = commands.add_parser(
        "hotplug", help="let Xen's hotplug scripts ask the policy",
        description="Install, show or remove the veto in Xen's hotplug scripts.",
        epilog=_EPILOG, formatter_class=raw)
    ways = hotplug.add_subparsers(metavar="WAY", required=True)
    for name, what in (("install", "put the veto before Xen's scripts"),
                       ("status", "say whether it is there"),
                       ("remove", "put Xen's own scripts back")):
        way = ways.add_parser(name, help=what, epilog=f"example: shype hotplug {name}",
                              formatter_class=raw)
        way.add_argument("--scripts", type=Path, default=Path("/etc/xen/scripts"), metavar="DIR",
                         help="where Xen's scripts are (default %(default)s)")
        way.add_argument("--json", action="store_true", help="print JSON")
        way.set_defaults(run=_manage, way=name)
    for name, what in (("block", "a disk"), ("vif", "an interface"), ("vif-up", "a filter")):
        way = ways.add_parser(
            name, help=f"may {what} come up? (called by the scripts)",
            epilog="called by Xen's scripts, with XENBUS_PATH in the environment",
            formatter_class=raw)
        add_options(way)
        way.add_argument("action", help="add, online, remove or offline", nargs="+")
        way.set_defaults(run=_ask, way=name)


def _manage(args: argparse.Namespace) -> int:
    from shype.host.resources import scripts

    if args.way == "install":
        found = scripts.install(_program(), args.scripts)
    elif args.way == "remove":
        found = scripts.remove(args.scripts)
    else:
        found = scripts.look(args.scripts)
    if args.json:
        output.print_json({"scripts": [{
            "path": str(one.path), "vetoed": one.vetoed, "problem": one.problem,
        } for one in found]})
    else:
        output.table("", ("SCRIPT", "STATE"), [(str(one.path), _state(one)) for one in found])
    wanted = args.way != "remove"
    return 0 if all(one.vetoed is wanted and not one.problem for one in found) else 1


def _program() -> str:
    """The command that the scripts will call."""
    from shype.base.child import missing_tool

    found = shutil.which("shype")
    if found is None:
        raise missing_tool("shype")
    return str(Path(found).absolute())


def _state(script: Script) -> str:
    word = "asks shype first" if script.vetoed else "asks nobody"
    return f"{word}: {script.problem}" if script.problem else word


def _ask(args: argparse.Namespace) -> int:
    from shype.base.errors import ShypeError
    from shype.host.resources.hotplug import GIVING, abandon, ask, up

    action = next((word for word in args.action if word in GIVING), args.action[-1])
    path = os.environ.get("XENBUS_PATH", "")
    try:
        agent = open_agent(args)
        answer = up(agent, path) if args.way == "vif-up" else ask(agent, path, action)
    except ShypeError as error:
        output.note(f"shype: refused, because it cannot be decided: {error}")
        if args.driver == "xen" and (action in GIVING or args.way == "vif-up"):
            from shype.host.drivers.xen.driver import XenHypervisor

            with contextlib.suppress(ShypeError):  # the first error is the one to tell
                abandon(XenHypervisor(), path)
        raise
    if args.json:
        output.print_json({"permitted": answer.permitted, "why": answer.why})
    elif not answer.permitted:
        output.note(f"shype: denied: {answer.why}")
    return 0 if answer.permitted else 1
