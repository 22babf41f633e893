"""`shype denials`: what the hypervisor denied, in the words of the policy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import open_agent
from shype.cli.host import command, show

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.denials import Explained

_EPILOG = """\
The hypervisor's lines carry no time: whether a wall stood against a start is
judged by who runs now. Lines about which the policy says nothing are shown as
they are. Behind them: frames that dom0's bridges refused since their table was
loaded (broadcasts, too: `shype network show`).

example: shype denials --json
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command(commands, "denials", "explain what hypervisor and bridges denied", _EPILOG, _denials)


def _denials(args: argparse.Namespace) -> int:
    from shype.decision.wording import printable
    from shype.host.denials import denials
    from shype.host.network import mediation
    from shype.host.network.refused import refusals

    agent = open_agent(args)
    found = denials(agent)
    frames = refusals(agent) if mediation.concerned(agent) else ()
    if args.json:
        show(args, {"denials": [_denial_json(item) for item in found],
                    "frames": [each.to_json() for each in frames]})
        return 0
    for item in found:
        times = f" ({item.times} times)" if item.times > 1 else ""
        if item.decision is None:
            print(f"hypervisor{times}: {item.denial.raw}")
            continue
        print(f"denied by the hypervisor{times}: {item.decision.sentence} [{item.decision.id}]")
        for holder in item.decision.holders:
            print(f"  held now by: {holder.vm} (domain {holder.domid}, {holder.label})")
        for span in item.decision.rules:
            print(f"  rule: {span}")
        print(f"  {item.denial.raw}")
    for each in frames:
        print(f"refused on the bridge ({each.frames} frames): {printable(each.told)}")
    if not found:
        output.note("the hypervisor has denied nothing that is still in its console ring")
    return 0


def _denial_json(item: Explained) -> dict[str, object]:
    denial = item.denial
    return {
        "source": {"domid": denial.source, "label": item.source, "context": denial.source_context},
        "target": {"domid": denial.target, "label": item.target, "context": denial.target_context},
        "class": denial.tclass, "permissions": list(denial.permissions),
        "details": dict(denial.details), "times": item.times, "raw": denial.raw,
        "decision": item.decision.to_json() if item.decision else None,
    }
