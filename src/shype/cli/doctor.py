"""`shype doctor`: what is wrong with this host, and how to mend it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.host import command, show

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.agent import Agent
    from shype.policy.manifest import Bundle

_EPILOG = """\
Looks at everything that enforcement rests on: Python and programs, bundle and
keys, Xen, FLASK, the loaded policy, XenStore, bridges, hotplug scripts, the
audit trail, Xen's command line, the boot entry, GRUB's environment block, the
boot modules, space, units. Changes nothing.

example: shype doctor
exit codes: 0 nothing is wrong (advice may be left); 1 something is, and each
line says how to mend it
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command(commands, "doctor", "check this host, and say how to mend it", _EPILOG, _doctor)


def _doctor(args: argparse.Namespace) -> int:
    from shype.host.install import trial
    from shype.host.install.doctor import Host, examine, xen_command_line
    from shype.host.install.places import Places

    host = Host(Places(), args.bundle, args.keys, lambda bundle: _agent(args, bundle),
                xen_command_line, trial.running())
    found = examine(host)
    if args.json:
        show(args, {"sound": not any(point.wrong for point in found),
                    "points": [point.to_json() for point in found]})
    else:
        output.table("", ("CHECK", "IS", "STATE"), [
            (point.name, "WRONG" if point.wrong else "ok" if point.holds else "advice",
             point.said) for point in found])
        for point in found:
            if point.fix and (point.wrong or not point.holds):
                output.note(f"{point.name}: {point.fix}")
    return 1 if any(point.wrong for point in found) else 0


def _agent(args: argparse.Namespace, bundle: Bundle) -> Agent:
    """The agent; no version counts as run because a doctor looked."""
    from shype.host.agent import Agent
    from shype.host.drivers.xen.driver import XenHypervisor, require_xen

    if args.model_file is not None:
        from shype.host.drivers.model import ModelHypervisor

        state = args.state or args.model_file.with_name(f"{args.model_file.name}.state")
        return Agent(bundle, ModelHypervisor(bundle, args.model_file), state.absolute())
    require_xen()
    return Agent(bundle, XenHypervisor(), args.state or Path("/var/lib/shype"))
