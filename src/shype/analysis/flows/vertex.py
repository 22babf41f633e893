"""What information flows between: labels that are alike, and resources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from shype.policy.model import Resource, ResourceKind
from shype.policy.names import LabelName


class Role(StrEnum):
    """What a vertex is, which says from which layer on a path may pass it."""

    LABEL = "label"
    GUARD = "guard"
    DRIVER = "driver"
    DOM0 = "dom0"
    RESOURCE = "resource"


class Layer(IntEnum):
    """What a flow depends on, the least first.

    A layer includes those before it, but the last two do not include each
    other: dom0 reaches all that it runs, and so do covert channels on one host.
    The layer of a pair is the first at which there is a path from one to the
    other.
    """

    DIRECT = 0  # one step, by a mechanism of the hypervisor
    TRANSITIVE = 1  # several such steps, through labels that are not trusted
    GUARD = 2  # through a guard
    SHARED = 3  # through a disk, a bridge or a device that several VMs use
    DRIVER = 4  # through a driver domain
    DOM0 = 5  # through dom0
    COVERT = 6  # through channels that nobody mediates (`shype.analysis.flows.covert`)

    @property
    def shown(self) -> str:
        """Its name in all output."""
        return self.name.lower()

    @property
    def below(self) -> tuple[Layer, ...]:
        """Those that it includes, itself at the end."""
        return (*(one for one in Layer if one < min(self, Layer.DOM0)), self)

    def passes(self, role: Role) -> bool:
        """Whether a path at this layer may pass a vertex of that role."""
        return PASSED[role] in self.below


#: From which layer on a path may pass a vertex.
PASSED = {
    Role.LABEL: Layer.TRANSITIVE, Role.GUARD: Layer.GUARD, Role.RESOURCE: Layer.SHARED,
    Role.DRIVER: Layer.DRIVER, Role.DOM0: Layer.DOM0,
}


@dataclass(frozen=True, slots=True)
class Vertex:
    """Labels that nothing tells apart here, or one entry of ``resources``.

    ``labels`` is empty for a resource, for which ``kind`` is given; ``entry`` is
    None for the resources of that kind that no entry names.
    """

    role: Role
    labels: tuple[LabelName, ...] = ()
    kind: ResourceKind | None = None
    entry: Resource | None = None
    resource: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, or the one name of the resource as ``--from`` takes it."""
        return self.labels or (self.resource,)

    @property
    def shown(self) -> str:
        """``a-db``, ``a-db, b-db``, or with many labels ``a-db, b-db and 3 like them``."""
        names = self.names
        if len(names) <= 3:
            return ", ".join(names)
        return f"{names[0]}, {names[1]} and {len(names) - 2} like them"
