"""`shype store`: whether guests can talk through XenStore, and the end of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import add_options, open_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from shype.cli.types import Commands

_EPILOG = """\
Every VM owns nodes in XenStore, and by default it may open them to any other
VM; no hypervisor policy sees that. The C xenstored started with --perm-nb 0
refuses it. A host where that does not hold does not enforce, so `shype run`
starts nothing there.

example:
  shype store status
  shype store lock          # now, with all VMs running
"""
_STATUS = """\
example: shype store status
exit codes: 0 locked, 3 open, or xenstored does not answer
"""
_LOCK = """\
The C xenstored replaces itself by itself (a live update), with its options and
--perm-nb 0; VMs, their devices and watches go on. oxenstored cannot do that:
start the C xenstored at the next boot. For that, on Debian, /etc/default/xen:

  XENSTORED=/usr/lib/xen-4.17/bin/xenstored
  XENSTORED_ARGS="--perm-nb 0"

example: shype store lock
         shype store lock --daemon /usr/local/sbin/xenstored-shype
exit codes: 0 locked, 2 a daemon that will not do, 3 it cannot be locked now
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "store", help="keep VMs from talking through XenStore", epilog=_EPILOG,
        formatter_class=raw, description="Keep VMs from talking through XenStore.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    _verb(verbs, "status", "say whether guests can open their nodes to others", _STATUS, _status)
    lock = _verb(verbs, "lock", "lock the running xenstored, with VMs running", _LOCK, _lock)
    lock.add_argument("--daemon", type=Path, metavar="FILE",
                      help="the C xenstored that takes over (default: the one that runs)")


def _verb(
    verbs: Commands, name: str, what: str, epilog: str, run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(verb)
    verb.set_defaults(run=run)
    return verb


def _status(args: argparse.Namespace) -> int:
    from shype.base.errors import Unavailable
    from shype.host.store.lockdown import hides_writes, lockdown, require_locked

    with open_agent(args).hypervisor.store() as store:
        found = lockdown(store)
        hidden = hides_writes(store)
        try:
            require_locked(store)
            problem = None
        except Unavailable as error:
            problem = error
    if args.json:
        output.print_json({
            "locked": found.holds, "permissions": found.permissions, "hides_writes": hidden,
            "problem": problem.to_json() if problem else None,
        })
    else:
        closed = {
            True: "closed", None: "unknown: not a daemon that shype knows",
            False: "open: conflicts of transactions, and the count of writes",
        }[hidden]
        output.table("", ("WHAT", "STATE"), [
            ("access lists", str(found)), ("storage channels", closed),
        ])
        if problem is not None:
            output.note(f"shype: error: {problem}")
    return 0 if found.holds else 3


def _lock(args: argparse.Namespace) -> int:
    from shype.host.store.locking import lock

    agent = open_agent(args)
    done = lock(agent, args.daemon)
    if args.json:
        output.print_json({"replaced": done.replaced, "program": done.program,
                           "options": list(done.options)})
    elif done.replaced:
        print(f"xenstored was replaced while it ran, by {done.program} {' '.join(done.options)}")
        print("for the next boot, /etc/default/xen needs the same: see `shype store lock --help`")
    else:
        print("locked already: nothing was changed")
    return 0
