"""`shype vtpm`: the TPMs of VMs, on the host; and, in a VM, the way to its own."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, lock_option, show

if TYPE_CHECKING:
    from shype.cli.types import Commands

_EPILOG = """\
examples:
  shype vtpm list                # on the host: whose TPMs there are
  shype vtpm remove old-desk     # on the host: destroys one, if you say yes
  shype vtpm relay               # in a VM: /dev/tpm0
"""
_LIST = """\
STATE is `served` while the VM runs, `kept` while it does not; `lost` if the VM
runs and what served its TPM has ended (stop the VM, and start it again);
`damaged` if nobody gets it.

example: shype vtpm list --json
exit codes: 0 all are well, 1 one is lost or damaged
"""
_REMOVE = """\
What its keys have protected or signed for cannot be had any more. A VM of that
UUID gets a new TPM at its next start, with another identity. It asks first;
where nobody can be asked it wants --yes.

example: shype vtpm remove 5e1f0000-0000-4000-8000-00000000000a
exit codes: 0 removed, 1 not wanted, 2 there is none, or its VM runs
"""
_RELAY = """\
For a VM whose label has `vtpm: true`, as root in it: makes /dev/tpmN of the
console behind which the host serves its TPM, and goes on for as long as that is
to be there. Needs Linux's module tpm_vtpm_proxy (modprobe it). A VM without
shype needs one file of it: docs/how-to/vtpm.md.

example: shype vtpm relay &
exit codes: 0 the kernel has given the device up, 3 there is no such console
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    group = commands.add_parser(
        "vtpm", help="the TPMs of VMs", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A VM of a label with `vtpm: true` has a TPM 2.0 of its own, which the host "
        "serves and keeps. docs/how-to/vtpm.md has it all.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    command(verbs, "list", "list the TPMs of VMs", _LIST, _list)
    remove = command(verbs, "remove", "destroy the TPM of a VM", _REMOVE, _remove)
    remove.add_argument("which", metavar="UUID|NAME", help="the VM, by UUID or name")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    lock_option(remove)
    relay = verbs.add_parser(
        "relay", help="in a VM: make a /dev/tpm of its own TPM", epilog=_RELAY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="In a VM: make a /dev/tpm of the TPM that the host serves.",
    )
    relay.set_defaults(run=_relay)


def _list(args: argparse.Namespace) -> int:
    from shype.host.vtpm.kept import State, tpms

    found = tpms(open_agent(args))
    if args.json:
        show(args, {"tpms": [tpm.to_json() for tpm in found]})
    else:
        rows = []
        for tpm in found:
            owner = tpm.owner
            rows.append((tpm.uuid, "?", "?", str(tpm.state), "?", "?") if owner is None else (
                tpm.uuid, owner.vm, owner.label, str(tpm.state), owner.ek or "-",
                datetime.datetime.fromtimestamp(owner.created, datetime.UTC).date().isoformat()))
        output.table("", ("UUID", "VM", "LABEL", "STATE", "IDENTITY", "SINCE"), rows)
        # Of an open directory all say the same.
        for error in dict.fromkeys(str(tpm.error) for tpm in found if tpm.error is not None):
            output.note(f"warning: {error}")
    return int(any(tpm.state in (State.LOST, State.DAMAGED) for tpm in found))


def _remove(args: argparse.Namespace) -> int:
    from shype.host.vtpm.kept import removable, remove

    agent = open_agent(args)
    uuid, owner = removable(agent, args.which)
    if not args.yes and not _confirmed(args, owner.vm if owner else uuid):
        output.note("nothing was removed")
        return 1
    remove(agent, uuid, args.lock_timeout)
    if args.json:
        show(args, {"removed": uuid})
    else:
        print(f"the TPM of {uuid} is gone, with its keys")
    return 0


def _confirmed(args: argparse.Namespace, whose: str) -> bool:
    from shype.base.errors import BadInput
    from shype.cli.asking import confirmed
    from shype.decision.wording import printable

    return confirmed(
        args, f"destroy the TPM of {printable(whose)}, with its keys?", BadInput(
            "vtpm.unconfirmed", "nobody is there to be asked, and the keys cannot be had any more",
            "look at shype vtpm list, and then give --yes"))


def _relay(args: argparse.Namespace) -> int:
    from shype.base.errors import Unavailable
    from shype.host.vtpm import relay

    try:
        return relay.main()
    except (relay.Gone, OSError) as error:
        raise Unavailable(
            "vtpm.no-console", f"this VM's TPM cannot be reached: {error}",
            "run it as root in a VM whose label has `vtpm: true`, after modprobe tpm_vtpm_proxy",
        ) from error
