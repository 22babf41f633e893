"""Only what runs: the labels, disks, networks and devices of some hosts at one time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shype.analysis.state import Domain, State, Use
from shype.base.errors import BadInput
from shype.decision.wording import listed
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

    ``domains``: those that carry each label. ``hosts``: how many of them run on each
    host, which is a number. ``uses``: what the VMs of a label use together;
    None where that is not known of one of them, so that it may be everything.
    A resource of one name is taken for the same on all hosts.
    """

    domains: Mapping[LabelName, Sequence[Domain]]
    hosts: Mapping[LabelName, Mapping[int, int]]
    uses: Mapping[LabelName, frozenset[Use] | None]
    attached: tuple[Attached, ...]


def present(policy: Policy, *states: State) -> Present:
    """What ``states`` say, one for each host, in the terms of ``policy``.

    Raises BadInput: ``flow.state`` if a domain's label is not in the policy,
    so that nobody can say what flows; as `ResourceTable.match` for resources.
    """
    carrying: dict[LabelName | None, list[Domain]] = defaultdict(list)
    places: dict[LabelName, dict[int, int]] = {}
    for host, state in enumerate(states):
        before = {label: len(some) for label, some in carrying.items()}
        for domain in state.domains:
            if domain.domid != _DOM0:
                carrying[domain.label].append(domain)
        for label, some in carrying.items():
            if label is not None and len(some) > before.get(label, 0):
                places.setdefault(label, {})[host] = len(some) - before.get(label, 0)
    strange = [one.shown for label, some in carrying.items() if label not in policy.labels
               for one in some]
    if strange:
        raise BadInput(
            "flow.state", f"the policy does not know the label of {listed(strange)}",
            "use the policy that the host enforces, or stop these domains",
        )
    domains: dict[LabelName, Sequence[Domain]] = {}
    used: set[Use] = set()
    uses: dict[LabelName, frozenset[Use] | None] = {}
    for label, some in carrying.items():
        assert label is not None
        domains[label] = some
        known = [domain.uses for domain in some if domain.uses is not None]
        together = frozenset(use for each in known for use in each)
        used |= together
        uses[label] = together if len(known) == len(some) else None
    table = ResourceTable(policy.resources)
    attached = {
        (use.kind, use.name): Attached(use.kind, use.name, table.match(use.kind, use.name))
        for use in sorted(used, key=lambda use: (use.kind, use.name))
    }
    return Present(domains, places, uses, tuple(attached.values()))
