"""`shype migrate`, `shype receive`: VMs move from host to host."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, lock_option, show

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.agent import Agent

_MIGRATE = """\
The receiver's own policy decides: it must enforce, assign the same label to the
VM, and have its place in the wall free. It is asked before anything is sent,
and asks again itself when the VM comes. If it refuses, or anything fails, the
VM goes on here. Memory travels through ssh. The VM's disks must be reachable
on both hosts, as for xl migrate.

example: shype migrate a-db host2 --ssh "ssh -i /root/.ssh/shype-migrate"
exit codes: 0 moved, 1 refused by the receiver, 2 bad input, 3 not moved, or (as
migrate.unsettled) to be looked at on both hosts
"""
_RECEIVE = """\
Reads a migration from standard input and answers on standard output, as `xl
migrate-receive` does, so that shype migrate and xl migrate can both send. It
is meant as the forced command of an ssh key, in authorized_keys:

  command="shype receive",restrict ssh-ed25519 AAAA... shype@host1

The label comes from this host's policy. With --query it says whether it would
take a VM.

example: shype receive < stream
exit codes: 0 it runs here, 1 refused, 2 bad input, 3 the host cannot take it
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    migrate = command(commands, "migrate", "move a VM to another host", _MIGRATE, _migrate)
    migrate.add_argument("vm", metavar="NAME|DOMID", help="the VM, by name or domain id")
    migrate.add_argument("host", metavar="HOST", help="the receiver, as ssh knows it")
    migrate.add_argument(
        "--ssh", default="ssh", metavar="COMMAND", help="how to reach it (default %(default)s)")
    lock_option(migrate)
    receive = command(commands, "receive", "receive a VM that migrates here", _RECEIVE, _receive)
    receive.add_argument("--query", action="store_true", help=argparse.SUPPRESS)
    receive.add_argument("--handover", action="store_true", help=argparse.SUPPRESS)
    receive.add_argument("--challenge", action="store_true", help=argparse.SUPPRESS)
    lock_option(receive)


def _migrate(args: argparse.Namespace) -> int:
    from shype.host.migration import migrate
    from shype.meter.handover import followed

    agent, ssh = open_agent(args), shlex.split(args.ssh)
    with followed(agent.witness.goes):
        done = migrate(agent, args.vm, args.host, ssh, lock_timeout=args.lock_timeout)
    if done.refusal is None:
        _hand_over(agent, done.vm, args.host, ssh)
    if args.json:
        show(args, {
            "vm": done.vm, "label": done.label, "host": done.host, "moved": done.refusal is None,
            "released": list(done.released),
            "refusal": dict(zip(("id", "sentence"), done.refusal or (), strict=False)) or None,
        })
    elif done.refusal is not None:
        print(f"refused by {done.host}: {done.refusal[1]} [{done.refusal[0]}]")
    else:
        print(f"{done.vm} ({done.label}) runs on {done.host} now")
    return 0 if done.refusal is None else 1


def _hand_over(agent: Agent, vm: str, host: str, ssh: list[str]) -> None:
    """On a metered host: both sign what the VM has used here. It has moved, whatever comes of it.
    """
    from shype.base import child
    from shype.base.errors import ShypeError
    from shype.host.audit.event import Event, Result
    from shype.host.migration import COMMAND, HANDOVER
    from shype.meter.handover import kept, statement
    from shype.meter.ledger import Ledger

    ledger = Ledger(agent.state / "meter")
    if not ledger.exists:
        return
    try:
        own = statement(ledger, vm, host)
        if own is None:
            return
        answered = child.run((*ssh, host, f"{COMMAND} {HANDOVER}"), input=own, timeout=60,
                             check=False)
        both = kept(ledger, own, answered.out.encode() if answered.code == 0 else None)
        error = None if both else "meter.one-sided"
    except ShypeError as problem:
        error = problem.id
    agent.record(Event(
        kind="meter.handover", result=Result.DONE if error is None else Result.FAILED, vm=vm,
        object=f"host:{host}", error=error, deferrable=True))


def _take(args: argparse.Namespace, agent: Agent) -> int:
    from shype.host.census import residents
    from shype.meter.handover import MAX_STATEMENT, taken
    from shype.meter.ledger import Ledger

    found = {(r.domain.uuid, str(r.label)) for r in residents(agent)}
    both = taken(Ledger(agent.state / "meter"), sys.stdin.buffer.read(MAX_STATEMENT + 1),
                 lambda uuid, label: (uuid, label) in found)
    sys.stdout.write(both.decode("ascii"))
    return 0


def _receive(args: argparse.Namespace) -> int:
    from shype.host.migration import HANDOVER
    from shype.host.receiving import Announcement, answer, receive

    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "").split()
    peer = next(iter(os.environ.get("SSH_CONNECTION", "").split()), "unknown")
    agent = open_agent(args)
    if args.challenge or "--challenge" in asked:
        from shype.host.attestation.peers import challenge

        show(args, {"challenge": challenge(agent).hex()})
        return 0
    if args.query or "--query" in asked:
        announced = Announcement.loads(sys.stdin.buffer.read(16 * 1024 * 1024))
        show(args, answer(agent, announced, peer, args.lock_timeout).to_json())
        return 0
    if args.handover or HANDOVER in asked:
        return _take(args, agent)
    outcome = receive(agent, 0, 1, peer, lock_timeout=args.lock_timeout)
    if outcome.domid is None:
        output.note(f"denied by the {outcome.source} of the receiving host: "
                    f"{outcome.decision.sentence} [{outcome.decision.id}]")
        return 1
    return 0
