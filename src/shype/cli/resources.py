"""`shype resources`: which label each disk, network and device carries, and by which line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.policy.inventory import Inventory
    from shype.policy.model import Policy, Resource, ResourceLabel

_EPILOG = """\
examples:
  shype resources examples/classified.yaml
  shype resources examples/classified.yaml --inventory host.txt

An inventory has a line `KIND NAME` for each resource of a host:
  disk /dev/vg0/mail
  network br-web
  pci 0000:03:00.0
With it, each of these is shown with the entry that labels it. An exact name
goes before a pattern or range. A resource that no entry names carries the
resource label `unlabeled`; if the policy has none, nobody may use it.
exit codes: 0 shown, 2 the policy or the inventory has errors
"""


def add(commands: Commands) -> None:
    """Register the command."""
    from argparse import RawDescriptionHelpFormatter

    command = commands.add_parser(
        "resources",
        help="list the resources of a policy, or of a host, with their labels",
        description="List the entries of `resources` in a policy; with an inventory, the resources "
        "of a host and the entry that labels each.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument("file", metavar="FILE", type=Path, help="a policy file, or a bundle")
    command.add_argument(
        "--inventory", metavar="FILE", type=Path, help="the resources of a host, one a line"
    )
    command.add_argument("--json", action="store_true", help="print the list as JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.cli import output
    from shype.cli.explain import read_policy
    from shype.policy import inventory

    policy = read_policy(args.file)
    if args.inventory is None:
        entries = [_entry(policy, entry) for entry in policy.resources]
        columns = ["kind", "pattern", "label", "coalitions", "level", "where"]
    else:
        entries = _found(policy, inventory.read(args.inventory))
        columns = ["kind", "name", "label", "coalitions", "level", "by", "where"]
    if args.json:
        output.print_json({"policy": policy.name, "resources": entries})
        return 0
    if not entries:
        print("no resources")
        return 0
    rows = [[_cell(entry[column]) for column in columns] for entry in entries]
    output.table("", [column.upper() for column in columns], rows)
    return 0


def _found(policy: Policy, known: Inventory) -> list[dict[str, object]]:
    """Each resource of the inventory, with the entry that labels it."""
    from shype.policy.names import UNLABELED_RESOURCE
    from shype.policy.resources import ResourceTable

    table = ResourceTable(policy.resources)
    result = []
    for kind, name in known.items:
        entry = table.match(kind, name)
        if entry is not None:
            label, by, where = _borne(policy, entry.label), entry.pattern, str(entry.span)
        else:
            kept = policy.unlabeled_resources
            label = _borne(policy, kept) if kept is not None else {
                "coalitions": [], "level": "nobody may use it",
            }
            label["label"] = str(UNLABELED_RESOURCE)
            by, where = "", str(kept.span) if kept is not None else ""
        result.append({"kind": str(kind), "name": name, **label, "by": by, "where": where})
    return result


def _entry(policy: Policy, entry: Resource) -> dict[str, object]:
    return {
        "kind": str(entry.kind), "pattern": entry.pattern, **_borne(policy, entry.label),
        "where": str(entry.span),
    }


def _borne(policy: Policy, label: ResourceLabel) -> dict[str, object]:
    """What a label says, for people: its levels are one text."""
    levels = []
    for lattice, level in ((policy.levels, label.level), (policy.integrity, label.integrity)):
        if lattice is not None and level is not None:
            levels.append(lattice.show(level))
    return {
        "label": label.name or "", "coalitions": sorted(label.coalitions),
        "level": "inaccessible" if label.inaccessible else ", ".join(levels),
    }


def _cell(value: object) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value)) or "-"
