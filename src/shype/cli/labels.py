"""`shype labels` and `shype label`: which labels there are, and who carries them."""

from __future__ import annotations

import argparse
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands

_LABELS_EPILOG = """\
example:
  shype labels examples/banks.yaml
  shype labels examples/banks.yaml --kind any --json

exit codes: 0 ok, 2 bad policy
"""

_LABEL_EPILOG = """\
example:
  shype label get examples/banks.yaml vm a-db
  shype label set policy.yaml vm web-3 web
  shype label set policy.yaml resource disk /dev/vg0/web-3 web-disks
  shype label remove policy.yaml vm web-3

`set` and `remove` change one entry of `vms:` or `resources:` and leave every
other character of the file as it is, comments included; the result is checked
before it is written. What runs keeps its label until the new policy is built
and loaded.
exit codes: 0 ok; 1 there is no label to get or to remove; 2 bad policy, unknown
label, or a file written such that the change cannot be made safely
"""
_KINDS = ("disk", "network", "pci", "irq", "ioport", "memory")


def add(commands: Commands) -> None:
    """Register the commands."""
    labels = commands.add_parser(
        "labels",
        help="list the labels of a policy",
        description="List the labels of a policy, sorted.",
        epilog=_LABELS_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    labels.add_argument("file", metavar="FILE", type=Path, help="a policy file, or a bundle")
    labels.add_argument(
        "--kind", choices=("vm", "resource", "any"), default="vm",
        help="labels of VMs (if left out), of resources, or both",
    )
    labels.add_argument("--json", action="store_true", help="print JSON")
    labels.set_defaults(run=_labels)

    label = commands.add_parser(
        "label",
        help="show or change the label of a VM or a resource in a policy file",
        description="Show or change the label that a policy file gives to a VM or a resource.",
        epilog=_LABEL_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    verbs = label.add_subparsers(metavar="VERB", required=True)
    for verb, what, needs_label in (
        ("get", "print the label", False), ("set", "give a label", True),
        ("remove", "take the label away", False),
    ):
        command = verbs.add_parser(verb, help=what, description=f"{what.capitalize()}.")
        command.add_argument("file", metavar="FILE", type=Path, help="the policy file (YAML)")
        objects = command.add_subparsers(metavar="OBJECT", required=True)
        vm = objects.add_parser("vm", help="of a VM, by name or UUID")
        resource = objects.add_parser("resource", help="of a resource")
        resource.add_argument("kind", choices=_KINDS)
        for each, object in ((vm, "vm"), (resource, "resource")):
            each.add_argument("name", metavar="NAME")
            if needs_label:
                each.add_argument("label", metavar="LABEL")
            each.add_argument("--json", action="store_true", help="print JSON")
            each.set_defaults(run=_label, verb=verb, object=object)


def _labels(args: argparse.Namespace) -> int:
    from shype.cli.explain import read_policy

    policy = read_policy(args.file)
    found: dict[str, list[str]] = {
        "vm": sorted(policy.labels), "resource": sorted(map(str, policy.resource_labels)),
    }
    kinds = [args.kind] if args.kind != "any" else list(found)
    if args.json:
        output.print_json({kind: found[kind] for kind in kinds})
    elif args.kind != "any":
        for name in found[args.kind]:
            print(name)
    else:
        output.table("", ["kind", "label"], [[k, name] for k in kinds for name in found[k]])
    return 0


def _label(args: argparse.Namespace) -> int:
    from shype.policy.editing import PolicyFile
    from shype.policy.model import ResourceKind

    file = PolicyFile(args.file)
    name = args.name
    label = getattr(args, "label", None)
    if args.verb == "get":
        before = file.label_of(None if args.object == "vm" else ResourceKind(args.kind), name)
    elif args.object == "vm":
        edit = file.label_vm(name, label)
        before = edit.before
    else:
        edit = file.label_resource(ResourceKind(args.kind), name, label)
        before = edit.before
    if args.verb != "get" and before != label:
        file.save(edit)
    if args.json:
        said = {"get": "label", "set": "before", "remove": "before"}[args.verb]
        output.print_json({"name": name, said: before, **({"label": label} if label else {})})
    elif args.verb != "set" and before is None:
        output.note(f"{name} has no label in {args.file}")
    elif args.verb == "get":
        print(before)
    else:
        was = f" (before: {before})" if args.verb == "set" and before not in (None, label) else ""
        print(f"{name}: {label or 'no label'}{was}")
    return 1 if args.verb != "set" and before is None else 0
