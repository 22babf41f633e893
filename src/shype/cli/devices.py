"""`shype attach`, `detach`, `devices`: what running VMs have, and what they may get."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, lock_option, print_refusal, show

if TYPE_CHECKING:
    from shype.cli.types import Commands

_ATTACH = """\
SPEC is what xl takes; of a CD it is DRIVE=PATH. The policy is asked first; then
xl attaches, and what the backend really has is looked at. Nothing of what is
refused or fails stays. Only root may be able to exchange any part of the path.

examples:
  shype attach web disk phy:/dev/vg0/web-logs,xvdb,w    # xl block-attach
  shype attach web network bridge=br-web                # xl network-attach
  shype attach desk cd hdc=/srv/media/drivers.iso       # xl cd-insert
exit codes: 0 attached, 1 refused by the policy, 2 bad input, 3 it failed
"""
_DETACH = """\
examples:
  shype detach web disk xvdb       # xl block-detach
  shype detach web network 1       # xl network-detach, by number
  shype detach desk cd hdc         # xl cd-eject
exit codes: 0 done, 2 bad input, 3 it failed
"""
_DEVICES = """\
Asks the backends in dom0 what they have, and the policy whether their VMs may
have it. So it finds what was attached behind shype's back.

example: shype devices --json
exit codes: 0 all of it is permitted, 1 something is not, or is not known
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    attach = command(commands, "attach", "give a running VM a disk, a network or a CD", _ATTACH,
                      _attach)
    _subject(attach)
    attach.add_argument("spec", metavar="SPEC", help="as in the VM's configuration")
    detach = command(commands, "detach", "take a disk, a network or a CD away", _DETACH, _detach)
    _subject(detach)
    detach.add_argument("device", metavar="DEVICE", help="the guest's name for it, or its number")
    command(commands, "devices", "list what VMs have, and whether they may", _DEVICES, _devices)


def _subject(made: argparse.ArgumentParser) -> None:
    made.add_argument("vm", metavar="NAME|DOMID", help="the VM, by name or domain id")
    made.add_argument("kind", choices=("disk", "network", "cd"), help="what it is")
    lock_option(made)


def _attach(args: argparse.Namespace) -> int:
    from shype.host.resources.attach import Kind, attach

    done = attach(open_agent(args), args.vm, Kind(args.kind), args.spec,
                  lock_timeout=args.lock_timeout)
    numbers = [backend.number for backend in done.backends]
    if args.json:
        show(args, {
            "vm": done.domain.name, "domid": done.domain.domid, "label": done.label,
            "attached": numbers, "decision": done.decision.to_json(),
        })
    elif done.decision.permitted:
        print(f"{done.domain.name} (domain {done.domain.domid}) has {args.kind} {args.spec}, "
              f"number {', '.join(numbers)}")
    else:
        print_refusal(done.decision, "agent")
    return 0 if done.decision.permitted else 1


def _detach(args: argparse.Namespace) -> int:
    from shype.host.resources.attach import Kind, detach

    domain = detach(open_agent(args), args.vm, Kind(args.kind), args.device,
                    lock_timeout=args.lock_timeout)
    if args.json:
        show(args, {"vm": domain.name, "domid": domain.domid, "detached": args.device})
    else:
        print(f"{args.kind} {args.device} is taken away from {domain.name}")
    return 0


def _devices(args: argparse.Namespace) -> int:
    from shype.host.resources.inventory import inventory

    found = inventory(open_agent(args))
    if args.json:
        show(args, {"devices": [{
            "vm": held.vm, "domid": held.holding.backend.domid, "label": held.label,
            "kind": held.holding.backend.kind, "number": held.holding.backend.number,
            "what": held.what, "write": held.holding.write,
            "decision": held.decision.to_json() if held.decision else None,
        } for held in found]})
    else:
        rows = [(
            str(held.holding.backend.domid), held.vm, held.label or "UNKNOWN", held.what,
            "yes" if held.sound else "UNKNOWN" if held.decision is None
            else f"NO [{held.decision.id}]",
        ) for held in found]
        output.table("", ("DOMID", "VM", "LABEL", "HAS", "PERMITTED"), rows)
    wrong = [held for held in found if not held.sound]
    for held in wrong if not args.json else ():
        why = held.decision.sentence if held.decision else "nobody can tell what it is"
        output.note(f"warning: {held.vm}, {held.what}: {why}")
    return 1 if wrong else 0
