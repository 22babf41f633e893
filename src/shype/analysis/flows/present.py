"""Only what runs: the labels, disks, networks and devices of a host at one time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from shype.analysis.state import State, Use
from shype.base.errors import BadInput
from shype.policy.model import Policy, Resource, ResourceKind
from shype.policy.names import LabelName
from shype.policy.resources import ResourceTable

#: dom0's domain id.
_DOM0 = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """A resource that somebody uses, and the entry that labels it (None: no entry does)."""

    kind: ResourceKind
    name: str
    entry: Resource | None


@dataclass(frozen=True, slots=True)
class Present:
    """Who runs and what they use.

    ``vms``: the VMs of each label. ``uses``: what the VMs of a label use
    together; None where that is not known of one of them, so that it may be
    everything.
    """

    vms: Mapping[LabelName, tuple[str, ...]]
    uses: Mapping[LabelName, frozenset[Use] | None]
    attached: tuple[Attached, ...]


def present(policy: Policy, state: State) -> Present:
    """What ``state`` says, in the terms of ``policy``.

    Raises BadInput: ``flow.state`` if a domain's label is not in the policy,
    so that nobody can say what flows; as `ResourceTable.match` for resources.
    """
    guests = [domain for domain in state.domains if domain.domid != _DOM0]
    strange = [domain.shown for domain in guests if domain.label not in policy.labels]
    if strange:
        raise BadInput(
            "flow.state", f"the policy does not know the label of {', '.join(strange)}",
            "use the policy that the host enforces, or stop these domains",
        )
    vms: dict[LabelName, list[str]] = defaultdict(list)
    uses: dict[LabelName, frozenset[Use] | None] = {}
    table = ResourceTable(policy.resources)
    attached: dict[tuple[ResourceKind, str], Attached] = {}
    for domain in guests:
        assert domain.label is not None
        vms[domain.label].append(domain.vm)
        before = uses.get(domain.label, frozenset())
        mine = None if domain.uses is None or before is None else before | {*domain.uses}
        uses[domain.label] = mine
        for use in domain.uses or ():
            entry = table.match(use.kind, use.name)
            attached[use.kind, use.name] = Attached(use.kind, use.name, entry)
    return Present(
        {label: tuple(names) for label, names in vms.items()}, uses, tuple(attached.values()),
    )
