"""Physical resources in a binary policy, against what the security server says of each.

The hypervisor looks a resource up in a list (security_irq_sid(),
security_device_sid(), security_iterate_ioport_sids(),
security_iterate_iomem_sids() in xen/xsm/flask/ss/services.c); what it does not
find has the context of an initial SID.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from shype.base.bits import each
from shype.compile.flask import expected
from shype.compile.flask.effective import Effective
from shype.compile.flask.mismatch import Mismatch, verdict
from shype.compile.flask.reader import Context, ObjectContext
from shype.compile.flask.world import LOWEST, World
from shype.policy.model import ResourceKind
from shype.policy.resources import ResourceTable, interval, label_key

_SIDS = {
    ResourceKind.PCI: "device_t", ResourceKind.IRQ: "irq_t",
    ResourceKind.IOPORT: "ioport_t", ResourceKind.MEMORY: "iomem_t",
}
_MOST = {
    ResourceKind.PCI: 0xFFFF_FFFF, ResourceKind.IRQ: 0xFFFF,
    ResourceKind.IOPORT: 0xFFFF, ResourceKind.MEMORY: (1 << 40) - 1,
}
_RANGES = (ResourceKind.IOPORT, ResourceKind.MEMORY)
_PAGE_SHIFT = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """Resources from ``first`` on that neither the policy nor the binary tells apart.

    ``type`` is what they carry, ``users`` the VM labels that may use them.
    ``labelled`` is false for what no object context names.
    """

    kind: ResourceKind
    first: int
    type: int
    users: int
    labelled: bool


class Hardware:
    """All physical resources there can be, in pieces."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._table = ResourceTable(world.policy.resources)
        self._users: dict[object, int] = {}
        self._objects: dict[ResourceKind, list[ObjectContext]] = {kind: [] for kind in _SIDS}
        for item in world.binary.objects:
            self._objects[ResourceKind(item.kind)].append(item)
        self.pieces = [piece for kind in _SIDS for piece in self._of(kind)]

    def order(self) -> Iterator[Mismatch]:
        """Contexts that the hypervisor would not find, or that stand for a domain's."""
        binary = self._world.binary
        taken = {sid.type for sid in binary.sids} | {*binary.transitions.values()}
        taken |= {self._world.names.types[i] for i in each(self._world.carried)}
        for kind, items in self._objects.items():
            last = -1
            for item in items:
                if kind in _RANGES and item.first <= last:
                    yield self._odd(item, "ascending ranges", "out of order")
                last = item.last
                if item.context != Context("u", "r", item.context.type, LOWEST):
                    yield self._odd(item, "the lowest level", str(item.context.range))
                if item.context.type in taken:
                    yield self._odd(item, "a type of its own", item.context.type)

    def mismatches(self, effective: Effective) -> Iterator[Mismatch]:
        """Resource by resource: who may use it."""
        for piece in self.pieces:
            for word in expected.VM_ON_RESOURCE[piece.kind]["resource"]:
                rows = effective.rules.rows.get(("resource", word), {})
                got = sum(
                    1 << i for i in each(self._world.guests) if rows.get(i, 0) >> piece.type & 1
                )
                for extra, permitted in ((got & ~piece.users, True), (piece.users & ~got, False)):
                    for i in each(extra):
                        yield Mismatch(
                            self._world.name(i), name(piece.kind, piece.first),
                            f"{piece.kind}, resource {{ {word} }}", verdict(not permitted),
                            verdict(permitted),
                        )

    @property
    def pci_users(self) -> int:
        """The labels that may have some PCI device."""
        found = 0
        for piece in self.pieces:
            found |= piece.users if piece.kind is ResourceKind.PCI else 0
        return found

    def grants(self, put: expected.Put) -> None:
        """The permissions that go with every piece."""
        world, dom0 = self._world, 1 << self._world.dom0
        users, quarantine = 0, 1 << world.names.index["domio_t"]
        for piece in self.pieces:
            put(piece.users, 1 << piece.type, expected.VM_ON_RESOURCE[piece.kind])
            if piece.labelled:
                put(dom0, 1 << piece.type, expected.DOM0_AT_BOOT[piece.kind])
            if piece.users:
                put(dom0, 1 << piece.type, expected.DOM0_GIVES[piece.kind])
                if piece.kind is ResourceKind.PCI:
                    put(quarantine, 1 << piece.type, expected.QUARANTINE_ON_PCI)
                    put(dom0, quarantine, expected.DOM0_ON_QUARANTINE)
            users |= piece.users
        served = sum(
            1 << at for name_, at in world.at.items() if world.server.authorize(name_).permitted
        )
        put(dom0, users & served, expected.DOM0_GIVES_TO_VM)

    def _of(self, kind: ResourceKind) -> Iterator[Piece]:
        """One piece per stretch between two places where the policy or the binary may change."""
        shift = _PAGE_SHIFT if kind is ResourceKind.MEMORY else 0
        starts = {0}
        for entry in self._world.policy.resources:
            if entry.kind is kind:
                low, high = interval(kind, entry.pattern)
                starts |= {low >> shift, (high >> shift) + 1}
        for item in self._objects[kind]:
            starts |= {item.first, item.last + 1}
        items = self._objects[kind]
        ranges = sorted(items, key=lambda item: item.first)
        firsts = [item.first for item in ranges]
        for start in sorted(starts):
            if start > _MOST[kind]:
                continue
            at = bisect_right(firsts, start) - 1
            found = ranges[at] if at >= 0 and ranges[at].last >= start else None
            type_ = found.context.type if found is not None else _SIDS[kind]
            yield Piece(
                kind, start, self._world.names.index[type_], self._who(kind, start << shift),
                found is not None,
            )

    def _who(self, kind: ResourceKind, number: int) -> int:
        """The VM labels that the security server lets use it; asked once per label of resources."""
        world, text = self._world, name(kind, number >> (12 if kind is ResourceKind.MEMORY else 0))
        entry = self._table.match(kind, text)
        key = kind, None if entry is None else label_key(entry.label), entry is None
        found = self._users.get(key)
        if found is None:
            found = 0
            for mask in world.members.values():
                label = world.labels[next(each(mask))]
                if world.server.use(label, kind, text).permitted:
                    found |= mask
            self._users[key] = found
        return found

    def _odd(self, item: ObjectContext, policy: str, binary: str) -> Mismatch:
        return Mismatch(
            name(ResourceKind(item.kind), item.first), str(item.last), "object context",
            policy, binary,
        )


def name(kind: ResourceKind, number: int) -> str:
    """A resource by the hypervisor's number (a page frame of memory), as a policy names it."""
    if kind is ResourceKind.PCI:
        segment, bus, device = number >> 16, number >> 8 & 0xFF, number >> 3 & 0x1F
        return f"{segment:04x}:{bus:02x}:{device:02x}.{number & 7}"
    return str(number) if kind is ResourceKind.IRQ else hex(
        number << _PAGE_SHIFT if kind is ResourceKind.MEMORY else number
    )

