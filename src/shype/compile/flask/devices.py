"""Physical resources: object contexts, and the rules for them.

Each label of resources has one type per kind.  Resources that no entry of the
policy names keep the type of an initial SID.  The hypervisor asks for `use_iommu`
with an IOMMU that remaps interrupts, and for other permissions without one; a
PCI device needs the former, because it reaches all memory otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shype.compile.flask import encoding as enc
from shype.compile.flask.rules import Allow
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy, ResourceKind
from shype.policy.names import LabelName
from shype.policy.resources import intervals, label_key

#: The initial SID of what has no object context, the statement that gives one, the numbers
#: that one of its units has (a page of memory), and the highest number.
_KINDS: Mapping[ResourceKind, tuple[str, str, int, int]] = {
    ResourceKind.PCI: ("device", "pcidevicecon", 1, 0xFFFF_FFFF),
    ResourceKind.IRQ: ("irq", "pirqcon", 1, 0xFFFF),
    ResourceKind.IOPORT: ("ioport", "ioportcon", 1, 0xFFFF),
    ResourceKind.MEMORY: ("iomem", "iomemcon", 4096, (1 << 52) - 1),
}
#: What a VM needs on a resource that dom0 gives it.
_USE = {
    ResourceKind.PCI: ("use_iommu",),
}
_USE_ANY = ("use_iommu", "use_iommu_nointremap", "use_noiommu")
#: What dom0's kernel needs on a device of its own at boot, whatever its label.
_BOOT = {
    ResourceKind.PCI: (
        "add_irq", "setup", "plug", "use_noiommu", "use_iommu", "use_iommu_nointremap",
    ),
    ResourceKind.IRQ: ("add_irq", "setup", "use_noiommu", "use_iommu", "use_iommu_nointremap"),
}
#: What dom0 needs on a resource to give it to a VM and to take it back.
_GIVE = {
    ResourceKind.PCI: ("add_device", "remove_device", "stat_device", "remove_irq"),
    ResourceKind.IRQ: ("remove_irq",),
    ResourceKind.IOPORT: ("add_ioport", "remove_ioport"),
    ResourceKind.MEMORY: ("add_iomem", "remove_iomem"),
}

#: DOMID_IO, to which the hypervisor gives devices in quarantine (xen/drivers/passthrough/pci.c).
_QUARANTINE = enc.sid_type("domio")


@dataclass(frozen=True, slots=True)
class Devices:
    """Types, attributes, rules and object contexts of all physical resources."""

    types: tuple[str, ...]
    attributes: dict[str, list[str]]
    rules: list[Allow]
    contexts: list[str]


def devices(policy: Policy, server: SecurityServer) -> Devices:
    """What the policy's physical resources need."""
    maker = _Maker(policy, server)
    for kind in _KINDS:
        maker.add(kind)
    return maker.finish()


class _Maker:
    def __init__(self, policy: Policy, server: SecurityServer) -> None:
        self._policy, self._server = policy, server
        self._alike: dict[int, list[LabelName]] = defaultdict(list)
        for label in policy.guests:
            self._alike[server.classes.of[label.name]].append(label.name)
        self._order = {label.name: i for i, label in enumerate(policy.guests)}
        self._sets: dict[tuple[LabelName, ...], str] = {}
        self._users: set[LabelName] = set()
        self._attributes: dict[str, list[str]] = {}
        self._types: list[str] = []
        self._rules: list[Allow] = []
        self._passed = False
        self._contexts: list[str] = []

    def add(self, kind: ResourceKind) -> None:
        """Types and contexts of what the policy labels, and rules for what it does not."""
        sid, _, unit, most = _KINDS[kind]
        pieces: list[tuple[int, int, str]] = []
        free = 0
        types: dict[object, str] = {}
        order = {id(entry): i for i, entry in enumerate(self._policy.resources)}
        gap: int | None = None
        for low, high, entry in intervals(self._policy.resources, kind):
            gap = free if gap is None and low > free else gap
            free = high + 1
            key = label_key(entry.label)
            if key not in types:
                named = entry.label.name or str(order[id(entry)])
                types[key] = enc.resource_type(kind, named)
                self._types.append(types[key])
                self._allow(kind, types[key], low, own=True)
            if pieces and pieces[-1][1:] == (low - 1, types[key]):
                pieces[-1] = (pieces[-1][0], high, types[key])
            else:
                pieces.append((low, high, types[key]))
        gap = free if gap is None and free <= most else gap
        if gap is not None and self._policy.unlabeled_resources is not None:
            self._allow(kind, enc.sid_type(sid), gap, own=False)
        for low, high, type_ in pieces:
            self._contexts += _context(kind, low // unit, high // unit, type_)

    def _allow(self, kind: ResourceKind, type_: str, number: int, *, own: bool) -> None:
        """Rules on a type of ``kind``, of whose resources one has ``number``."""
        if own and kind in _BOOT:
            self._rule(enc.DOM0_TYPE, type_, _BOOT[kind],
                       "dom0's kernel finds the machine's devices, whatever their labels")
        users = [
            name for names in self._alike.values()
            if self._server.use(names[0], kind, enc.resource_name(kind, number)).permitted
            for name in names
        ]
        if not users:
            return
        self._users |= {*users}
        self._rule(self._set(users), type_, _USE.get(kind, _USE_ANY),
                   f"these VMs may use {kind} resources with this label")
        self._rule(enc.DOM0_TYPE, type_, _GIVE[kind], "dom0 gives them to a VM and takes them back")
        if kind is ResourceKind.PCI:
            self._passed = True
            self._rules.append(Allow(
                self._set(users), enc.SELF_TYPE, "mmu", ("exchange",),
                "a PV kernel makes DMA buffers contiguous: of its own memory"))
            self._rule(_QUARANTINE, type_, _USE[kind],
                       "between two VMs a device is in quarantine, where its DMA reaches nobody")

    def finish(self) -> Devices:
        """dom0 gives resources to the VMs it may run."""
        users = [lb.name for lb in enc.managed(self._policy) if lb.name in self._users]
        if users:
            self._rule(enc.DOM0_TYPE, self._set(users), ("add", "remove"),
                       "dom0 gives these VMs hardware and takes it back")
        if self._passed:
            self._rule(enc.DOM0_TYPE, _QUARANTINE, ("add", "remove"),
                       "dom0 puts PCI devices into quarantine and takes them out")
        return Devices(tuple(self._types), self._attributes, self._rules, self._contexts)

    def _set(self, names: list[LabelName]) -> str:
        """A type, or an attribute that holds the types of ``names``; each set once."""
        chosen = tuple(sorted(names, key=self._order.__getitem__))
        if len(chosen) == 1:
            return enc.type_of(chosen[0])
        if chosen not in self._sets:
            attribute = enc.users_attribute(len(self._sets) + 1)
            self._sets[chosen] = attribute
            self._attributes[attribute] = [enc.type_of(name) for name in chosen]
        return self._sets[chosen]

    def _rule(self, source: str, target: str, words: tuple[str, ...], reason: str) -> None:
        self._rules.append(Allow(source, target, "resource", words, reason))


def _context(kind: ResourceKind, first: int, last: int, type_: str) -> Iterator[str]:
    statement = _KINDS[kind][1]
    context = f"({enc.USER} {enc.ROLE} {type_} ((s0) (s0)))"
    if kind in (ResourceKind.IOPORT, ResourceKind.MEMORY):
        yield f"({statement} (0x{first:x} 0x{last:x}) {context})"
        return
    for number in range(first, last + 1):
        shown = f"0x{number:x}" if kind is ResourceKind.PCI else str(number)
        yield f"({statement} {shown} {context})"
