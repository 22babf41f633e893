"""`shype store`: whether guests can talk through XenStore, and the end of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shype.cli.types import Commands
    from shype.host.store.audit import Opening, Repaired

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

_CHECK = """\
Looks at every node of XenStore. In a locked store only dom0 can have opened
one: a toolstack, or somebody at its prompt.

example: shype store check
exit codes: 0 none, 1 some are open, 3 xenstored does not answer
"""
_REPAIR = """\
Takes such access away, and makes the directories that VMs share where their
coalitions open the mechanism `xenstore`. `shype run` does both before a VM
starts; by hand it is needed after a change behind its back.

example: shype store repair
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "store", help="keep VMs from talking through XenStore", epilog=_EPILOG,
        formatter_class=raw, description="Keep VMs from talking through XenStore.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    command(verbs, "status", "say whether guests can open their nodes to others", _STATUS, _status)
    lock = command(verbs, "lock", "lock the running xenstored, with VMs running", _LOCK, _lock)
    command(verbs, "check", "look for nodes that are open against the policy", _CHECK, _check)
    command(verbs, "repair", "close them, and make the shared directories right", _REPAIR, _repair)
    lock.add_argument("--daemon", type=Path, metavar="FILE",
                      help="the C xenstored that takes over (default: the one that runs)")


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
        show(args, {
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
        show(args, {"replaced": done.replaced, "program": done.program,
                           "options": list(done.options), **_repaired(done.repaired)})
        return 0
    if done.replaced:
        print(f"xenstored was replaced while it ran, by {done.program} {' '.join(done.options)}")
        print("for the next boot, /etc/default/xen needs the same: see `shype store lock --help`")
    else:
        print("locked already: xenstored goes on as it is")
    _print_repaired(done.repaired)
    return 0


def _check(args: argparse.Namespace) -> int:
    from shype.host.store.audit import check

    found = check(open_agent(args))
    if args.json:
        show(args, {"openings": [opening.to_json() for opening in found]})
    else:
        _print_openings(found)
        if found:
            output.note("`shype store repair` closes them")
        else:
            print("no node lets a VM read what the policy keeps from it")
    return 1 if found else 0


def _repair(args: argparse.Namespace) -> int:
    from shype.host.store.audit import repair

    done = repair(open_agent(args))
    if args.json:
        show(args, _repaired(done))
    else:
        _print_repaired(done)
        if not done.openings and not done.shared.made and not done.shared.removed:
            print("nothing to repair")
    return 0


def _repaired(done: Repaired) -> dict[str, object]:
    return {
        "closed": [opening.to_json() for opening in done.openings],
        "shared": [share.path for share in done.shared.made],
        "withdrawn": list(done.shared.removed),
    }


def _print_openings(found: Sequence[Opening]) -> None:
    for opening in found:
        why = f": {opening.decision.sentence} [{opening.decision.id}]" if opening.decision else ""
        print(f"open: {opening.sentence}{why}")


def _print_repaired(done: Repaired) -> None:
    _print_openings(done.openings)
    if done.openings:
        print("  closed; what was read before is read")
    for share in done.shared.made:
        print(f"shared: {share.path} (domain {share.writer} writes, {share.reader} reads)")
    for path in done.shared.removed:
        print(f"withdrawn: {path}")
