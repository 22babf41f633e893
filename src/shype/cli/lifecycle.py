"""`shype watch`, `reboot`, `pause`, `unpause`, `save`, `restore`: the life of a VM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, lock_option, print_outcome, print_refusal, progress, show
from shype.cli.types import seconds

if TYPE_CHECKING:
    from shype.base.errors import ShypeError
    from shype.cli.types import Commands
    from shype.host.attestation.losses import Loss
    from shype.host.ended import Followed

_WATCH = """\
A guest that reboots or crashes is kept as it is, with its memory and its place
in the wall, until its end has been followed up: destroyed, or destroyed and
started again through the launch window, decided anew. This does it at once.
Without it the next command that changes the host does (run, stop, reboot, ...).
It also puts on record what hypervisor and bridges refuse (`shype audit show`),
before the hypervisor's small ring is overwritten.
One process for a host, for as long as it runs; it ends with SIGTERM.

example: shype watch
exit codes: 3 another one watches already
"""
_REBOOT = """\
The guest is asked to reboot; with --force it is destroyed. Then it is started
again with the configuration it was started from, and decided anew: its place in
the wall may have been taken meanwhile. A VM whose new start was refused or put
off is tried again.

example: shype reboot a-db --timeout 120
exit codes: 0 it runs again, 1 refused by the policy, 2 bad input, 3 it did not
end, or does not run again
"""
_PAUSE = """\
A paused VM keeps its memory, its label and its place in the wall.

example: shype pause a-db
"""
_UNPAUSE = "example: shype unpause a-db"
_SAVE = """\
The VM ends when its memory is in the file and on the disk; until then it could
go on, and does if anything fails. Only root may read the file, but it is not
encrypted. This host remembers a digest of it and the VM's label, and restores
nothing else under that name.

example: shype save a-db /var/lib/shype-images/a-db.img
exit codes: 0 saved, 2 bad input, 3 not saved: the VM goes on
"""
_RESTORE = """\
The label comes from this host: from its policy's `vms:`, or from what it saved
itself. An image that claims another label is refused, and so is one that this
host has not saved, or that has been changed since. --foreign takes an image
from elsewhere, for which then you vouch; its label still must agree.

example: shype restore /var/lib/shype-images/a-db.img
exit codes: 0 it runs, 1 refused, 2 bad input (a changed image), 3 the host
cannot do it
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    watch = command(commands, "watch", "follow up guests that end", _WATCH, _watch)
    watch.add_argument("--once", action="store_true", help="look once, and end")
    reboot = command(commands, "reboot", "reboot a VM", _REBOOT, _reboot)
    reboot.add_argument("--force", action="store_true", help="destroy it instead of asking it")
    reboot.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S",
        help="seconds that the guest gets to end (default %(default)g)")
    pause = command(commands, "pause", "stop a VM's processors", _PAUSE, _pause)
    unpause = command(commands, "unpause", "let a paused VM go on", _UNPAUSE, _unpause)
    save = command(commands, "save", "save a VM to a file", _SAVE, _save)
    restore = command(commands, "restore", "restore a VM from a file", _RESTORE, _restore)
    restore.add_argument("file", type=Path, metavar="FILE", help="the image")
    restore.add_argument(
        "--foreign", action="store_true", help="take an image that this host has not saved")
    lock_option(restore)
    for one in (reboot, pause, unpause, save):
        one.add_argument("vm", metavar="NAME|DOMID", help="the VM, by name or domain id")
        lock_option(one)
    save.add_argument("file", type=Path, metavar="FILE", help="the new file")


def _watch(args: argparse.Namespace) -> int:
    from shype.host.watch import watch

    watch(open_agent(args), lambda what: _tell(what, args), go_on=lambda: not args.once,
          again=lambda: open_agent(args))
    return 0


def _tell(what: Followed | Loss | ShypeError, args: argparse.Namespace) -> None:
    from shype.base.errors import ShypeError
    from shype.host.attestation.losses import Loss

    if args.json:
        show(args, what.to_json())
    elif isinstance(what, ShypeError):
        output.note(f"shype: error: {what}")
    elif isinstance(what, Loss):
        where = f" to {what.host}" if what.host else ""
        print(f"{what.vm} (domain {what.domid}) was {what.did}{where}:", flush=True)
        print(f"  {what.decision.sentence} [{what.decision.id}]" if what.decision is not None
              else "  the host is trusted again", flush=True)
    elif what.domid is not None:
        print(f"{what.vm} runs again as domain {what.domid}", flush=True)
    elif what.decision is not None:
        print(f"{what.vm} does not run again:", flush=True)
        print_refusal(what.decision, "agent")
    elif what.error is not None:
        print(f"{what.vm} does not run again: {what.error}", flush=True)
    else:
        print(f"{what.vm} has ended ({what.ending}): {what.action}", flush=True)


def _reboot(args: argparse.Namespace) -> int:
    from shype.host.control import reboot

    done = reboot(open_agent(args), args.vm, force=args.force, timeout=args.timeout,
                  lock_timeout=args.lock_timeout)
    if args.json:
        decision = done.decision.to_json() if done.decision else None
        show(args, {"vm": done.vm, "domid": done.domid, "decision": decision})
    elif done.decision is not None:
        print_refusal(done.decision, "agent")
    else:
        print(f"{done.vm} runs again as domain {done.domid}")
    return 0 if done.decision is None else 1


def _pause(args: argparse.Namespace) -> int:
    from shype.host.control import pause

    domain = pause(open_agent(args), args.vm, lock_timeout=args.lock_timeout)
    return _said(args, domain.name, domain.domid, "is paused")


def _unpause(args: argparse.Namespace) -> int:
    from shype.decision.decision import Decision
    from shype.host.control import unpause

    done = unpause(open_agent(args), args.vm, lock_timeout=args.lock_timeout)
    if isinstance(done, Decision):
        if args.json:
            show(args, {"vm": args.vm, "domid": None, "decision": done.to_json()})
        else:
            print_refusal(done, "agent")
        return 1
    return _said(args, done.name, done.domid, "runs")


def _said(args: argparse.Namespace, vm: str, domid: int, what: str) -> int:
    if args.json:
        show(args, {"vm": vm, "domid": domid})
    else:
        print(f"{vm} (domain {domid}) {what}")
    return 0


def _save(args: argparse.Namespace) -> int:
    from shype.host.saving import save

    done = save(open_agent(args), args.vm, args.file.absolute(), lock_timeout=args.lock_timeout)
    if args.json:
        show(args, {"vm": done.vm, "label": done.label, "file": str(done.file), "size": done.size,
                    "released": list(done.released)})
    else:
        print(f"{done.vm} ({done.label}) is saved in {done.file}, {done.size / 2**20:.0f} MiB")
    return 0


def _restore(args: argparse.Namespace) -> int:
    from shype.host.restoring import restore

    outcome = restore(
        open_agent(args), args.file, foreign=args.foreign,
        observer=lambda step: progress(step, args), lock_timeout=args.lock_timeout)
    return print_outcome(outcome, args)
