"""`shype network`: the label matrix on dom0's bridges."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, show

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.network.matrix import Matrix, Port
    from shype.host.network.vif import Uplink

_NETWORK = """\
Frames pass between two VMs on a bridge of dom0 only if the policy lets both use
the bridge and lets the sender send to the receiver. The rules are a table of
nftables, `bridge shype`, made anew whenever a VM starts, stops or gets an
interface, and replaced in one transaction.

example: shype network show
"""
_SHOW = """\
Who may send to whom (+), by bridge and label, and the ports. dom0 stands for
its own interface on the bridge. A closed port says why nothing passes there.
Then what was refused since the table was last loaded, by VM and reason;
`shype audit show --kind network.refuse` has all that was not a broadcast.

example: shype network show
"""
_CHECK = """\
Asks the kernel how it would list the rules that the policy wants, and compares
that with what is loaded: a flushed table, a rule added or taken away is found.
Changes nothing; `shype network load` repairs.

example: shype network check
exit codes: 0 the kernel filters what the policy says, 1 it does not, 3 it
cannot be asked
"""
_LOAD = """\
Makes the bridges filter what the policy says of the VMs that run now. The agent
does this by itself; run it when the host boots, before any VM, and after other
programs have changed bridges or flushed nftables.

example: shype network load
"""


def add(commands: Commands) -> None:
    """Register the command."""
    top = commands.add_parser(
        "network", help="who may send frames to whom on dom0's bridges",
        description="Who may send frames to whom on dom0's bridges.", epilog=_NETWORK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = top.add_subparsers(metavar="COMMAND", required=True)
    command(inner, "show", "show the matrix and the ports", _SHOW, _show)
    command(inner, "check", "compare what is loaded with the policy", _CHECK, _check)
    command(inner, "load", "make the bridges filter what the policy says", _LOAD, _load)


def _show(args: argparse.Namespace) -> int:
    from shype.decision.wording import printable
    from shype.host.network import mediation
    from shype.host.network.refused import refusals

    agent = open_agent(args)
    found = mediation.wanted(agent)
    counted = refusals(agent) if mediation.concerned(agent) else ()
    if args.json:
        show(args, {**_json(found), "refused": [each.to_json() for each in counted]})
        return 0
    for bridge in sorted({c.bridge for c in found.classes.values()}):
        here = {n: c.shown for n, c in sorted(found.classes.items()) if c.bridge == bridge}
        rows = [
            (label, *("+" if (n, m) in found.pairs else "-" for m in here),
             "+" if n in found.to_dom0 else "-")
            for n, label in here.items()
        ]
        rows.append(("(dom0)", *("+" if m in found.from_dom0 else "-" for m in here), ""))
        output.table(f"{bridge}: may the row send to the column?",
                     ("LABEL", *here.values(), "(dom0)"), rows)
    output.table("", ("PORT", "DOMID", "BRIDGE", "LABEL", "MAC", "IP", "STATE"),
                 [*(_row(port) for port in found.ports),
                  *((up.name, "-", up.bridge, "outside", "-", _vlan(up),
                     "open" if number else "closed: it is called after another VLAN")
                    for up, number in found.uplinks)])
    if counted:
        output.table("refused since the table was loaded", ("FRAMES", "WHAT"),
                     [(str(each.frames), printable(each.told)) for each in counted])
    return 0


def _row(port: Port) -> tuple[str, ...]:
    vif = port.vif
    return (
        vif.name, str(vif.domid), vif.bridge or "-", port.label or "UNKNOWN", vif.mac or "-",
        " ".join(map(str, vif.addresses)) or "any",
        f"closed: {port.why}" if port.number is None else "open",
    )


def _vlan(up: Uplink) -> str:
    return "untagged" if up.vlan is None else f"VLAN {up.vlan}"


def _check(args: argparse.Namespace) -> int:
    from shype.host.network import mediation

    done = mediation.check(open_agent(args))
    if args.json:
        show(args, {"faults": list(done.faults), **_json(done.matrix)})
    elif not done.faults:
        ports = len(done.matrix.ports)
        print(f"the kernel filters what the policy says: {ports} ports, "
              f"{len(done.matrix.pairs)} pairs of labels")
    for fault in () if args.json else done.faults:
        print(fault)
    return 1 if done.faults else 0


def _load(args: argparse.Namespace) -> int:
    from shype.host.network import mediation

    done = mediation.settle(open_agent(args))
    if args.json:
        show(args, {"changed": done.changed, **_json(done.matrix)})
    else:
        print(f"loaded: {len(done.matrix.ports)} ports, {len(done.matrix.pairs)} pairs of labels"
              + ("" if done.changed else " (the same as before)"))
    return 0


def _json(found: Matrix) -> dict[str, object]:
    classes = found.classes
    return {
        "uplinks": [
            {"name": up.name, "bridge": up.bridge, "vlan": up.vlan, "open": number is not None}
            for up, number in found.uplinks
        ],
        "ports": [
            {"name": p.vif.name, "domid": p.vif.domid, "bridge": p.vif.bridge, "label": p.label,
             "mac": p.vif.mac, "addresses": [str(a) for a in p.vif.addresses],
             "open": p.number is not None, "why": p.why or None}
            for p in found.ports
        ],
        "pairs": [
            {"bridge": classes[a].bridge, "from": classes[a].shown, "to": classes[b].shown}
            for a, b in sorted(found.pairs)
        ],
        "to_dom0": [_class(found, n) for n in sorted(found.to_dom0)],
        "from_dom0": [_class(found, n) for n in sorted(found.from_dom0)],
    }


def _class(found: Matrix, number: int) -> dict[str, str]:
    return {"bridge": found.classes[number].bridge, "label": found.classes[number].label}
