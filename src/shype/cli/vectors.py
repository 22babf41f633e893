"""`shype vector`: which configuration vector of a static policy is in force, and switching."""

from __future__ import annotations

import argparse
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.host import command, lock_option, print_refusal, show
from shype.cli.types import seconds

if TYPE_CHECKING:
    from shype.cli.types import Commands

_GROUP = """\
A static policy (`static: true`) changes on no running host; all that can is
which of its vectors is in force, by an order signed with a key that signs
policies. At boot it is the first.

example:
  shype vector order policy.yaml maintenance --host xen1 --key author.key \\
    -o to-maintenance.order               # on the author's machine
  shype vector switch to-maintenance.order        # on the host
  shype vector show
"""
_ORDER = """\
The order is good for one switch on each host it names (without --host: on each
that has the policy), until it expires. Keep the key off the hosts.

example: shype vector order policy.yaml maintenance --key author.key -o m.order
"""
_SWITCH = """\
Refused while VMs run whose labels the new vector does not have: stop them
first. What runs on is not touched. After a reboot the first vector is in force
again, and the order is used up.

example: shype vector switch m.order
exit codes: 0 it is in force; 1 refused, such VMs run; 2 the order is not good
for this host; 3 the host cannot enforce
"""
_SHOW = """\
example: shype vector show --json
exit codes: 0 in force as ordered; 3 somebody has set it behind shype's back
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    group = commands.add_parser(
        "vector", help="switch a static policy's configuration vector", epilog=_GROUP,
        description="Show and switch the configuration vector of a static policy.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    command(verbs, "show", "the vectors, and which is in force", _SHOW, _show)
    switch = command(verbs, "switch", "put another vector into force", _SWITCH, _switch)
    switch.add_argument("order", metavar="ORDER", type=Path, help="the file of the signed order")
    lock_option(switch)
    order = verbs.add_parser(
        "order", help="sign an order to switch", epilog=_ORDER,
        description="Sign an order to switch hosts to another vector.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    order.add_argument("file", metavar="FILE", type=Path, help="the policy file, or a bundle")
    order.add_argument("vector", metavar="VECTOR", help="the vector to put into force")
    order.add_argument("--host", action="append", default=[], metavar="NAME",
                       help="a host that may follow it, as `hostname` prints it (may be repeated)")
    order.add_argument("--key", action="append", required=True, type=Path, metavar="NAME.key",
                       help="a key that signs it (may be repeated)")
    order.add_argument("--valid", type=seconds, default=3600.0, metavar="S",
                       help="how long it is good, seconds (default %(default)g)")
    order.add_argument("-o", "--output", required=True, type=Path, metavar="FILE",
                       help="where it is written")
    order.add_argument("--json", action="store_true", help="print JSON")
    order.set_defaults(run=_order)


def _order(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.base.files import write_atomic
    from shype.cli.explain import read_policy
    from shype.cli.keys import read_private
    from shype.decision.wording import listed
    from shype.policy import vector_order
    from shype.policy.names import VectorName

    policy = read_policy(args.file)
    if args.vector not in policy.vectors:
        names = listed([*policy.vectors]) if policy.vectors else "none"
        raise BadInput(
            "vector.unknown", f"the policy has no vector {args.vector!r}", f"it has {names}")
    order = vector_order.give(
        policy.name, policy.version, VectorName(args.vector), args.host, int(args.valid))
    write_atomic(args.output, vector_order.seal(order, [read_private(p) for p in args.key]), 0o644)
    if args.json:
        output.print_json({"file": str(args.output), **order.to_json(), "until": order.until})
    else:
        where = listed(order.hosts) if order.hosts else "every host that has the policy"
        print(f"{args.output}: {policy.name} {policy.version} to the vector {order.vector}, on "
              f"{where}, until {order.until}")
    return 0


def _switch(args: argparse.Namespace) -> int:
    from shype.cli.agent import open_agent
    from shype.host import vectors
    from shype.host.launch import catch_up
    from shype.host.trust import trusted_keys
    from shype.policy import vector_order

    agent = open_agent(args)
    order, keys = vector_order.read(args.order, trusted_keys(args.keys))
    with agent.lock.hold(args.lock_timeout):
        catch_up(agent)
        done = vectors.switch(agent, order, keys)
    if args.json:
        show(args, {
            "before": done.before, "after": done.before if done.refusal else done.after,
            "decision": done.refusal.to_json() if done.refusal else None,
        })
    elif done.refusal is not None:
        print_refusal(done.refusal, "agent")
    else:
        print(f"the vector {done.after} is in force (before: {done.before})")
    return 1 if done.refusal else 0


def _show(args: argparse.Namespace) -> int:
    from shype.cli.agent import open_agent
    from shype.host import vectors
    from shype.host.hostcheck import require_policy

    agent = open_agent(args)
    require_policy(agent)
    now = vectors.in_force(agent)
    known = agent.policy.vectors
    if args.json:
        show(args, {
            "static": agent.policy.static, "in_force": now,
            "vectors": {name: sorted(vector.labels) for name, vector in known.items()},
        })
        return 0
    if not known:
        word = "static" if agent.policy.static else "not static"
        print(f"the policy is {word} and has no vectors")
        return 0
    output.table("", ("VECTOR", "IN FORCE", "LABELS THAT MAY START"), [
        (name, "yes" if name == now else "-", ", ".join(sorted(vector.labels)) or "none")
        for name, vector in known.items()
    ])
    return 0
