"""The access matrix that a policy calls for, from `expected` and the security server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shype.base.bits import each
from shype.compile.flask import expected
from shype.compile.flask.expected import Grants
from shype.compile.flask.hardware import Hardware
from shype.compile.flask.matrix import Matrix
from shype.compile.flask.mismatch import Mismatch, short
from shype.compile.flask.world import World, permitted, transposed
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy

#: What a new type is for: a VM as it sees itself; dom0's end of a channel; a trusted label's
#: end, on which it may notify or not.
SELF, CHANNEL, SPEAKING, MUTE = "self", "channel", "speaking", "mute"


class Wanted:
    """Types, matrix and transitions that the policy calls for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._types: dict[str, set[str]] = {}
        told = world.permitted(Operation.EVENT_SEND)
        heard = transposed(told, world.members)
        #: By trusted label: whom it may notify, and who may notify it.
        self._trusted = {
            label: (told[number], heard[number])
            for number, mask in world.members.items() for label in each(mask & world.trusted)
        }

    # -- transitions ------------------------------------------------------------------------

    def transitions(self) -> Iterator[Mismatch]:
        """New types arise where they must and nowhere else.

        They decide what every other rule means, so they are compared first.
        """
        world = self._world
        wanted = self._roles_of_transitions()
        given = world.binary.transitions
        types: dict[str, set[str]] = {}
        for key, new in given.items():
            if key not in wanted:
                yield Mismatch(key[0], key[1], f"new {key[2]} type", "none", new)
            else:
                types.setdefault(wanted[key], set()).add(new)
        for key, role in wanted.items():
            if key not in given:
                yield Mismatch(key[0], key[1], f"new {key[2]} type", f"the {role} type", "none")
        known = {*(sid.type for sid in world.binary.sids)}
        known |= {world.names.types[i] for i in each(world.carried)}
        taken = [type_ for found in types.values() for type_ in found]
        if len({*taken}) != len({*wanted.values()}) or len(taken) != len({*taken}) or (
            {*taken} & known
        ):
            yield Mismatch("VMs", "themselves and channels", "new types", "one of each kind",
                           short(sorted(taken)))
        self._types = types

    def _roles_of_transitions(self) -> dict[tuple[str, str, str], str]:
        types, world = self._world.names.types, self._world
        wanted: dict[tuple[str, str, str], str] = {}
        for i in each(world.carried):
            wanted[types[i], types[i], "domain"] = SELF
            wanted[world.dom0_type, types[i], "event"] = CHANNEL
        for label, (told, heard) in self._trusted.items():
            for role, peers in ((SPEAKING, told), (MUTE, heard & ~told)):
                for peer in each(peers):
                    wanted[types[label], types[peer], "event"] = role
        return wanted

    def _type(self, role: str) -> int:
        """Index of the type with this role; after `transitions` found nothing wrong."""
        (type_,) = self._types[role]
        return self._world.names.index[type_]

    def consistent(self) -> Iterator[Mismatch]:
        """The hypervisor cannot tell who issues a copy, so the policy must not either."""
        world = self._world
        there = world.permitted(Operation.COPY_TO)
        back = transposed(world.permitted(Operation.COPY_FROM), world.members)
        for number, mask in world.members.items():
            yield from world.report(
                next(each(mask)), there[number] ^ back[number], "grant, copy out and copy in",
                "one permitted and one denied", "the same",
            )

    # -- the matrix -------------------------------------------------------------------------

    def matrix(self, hardware: Hardware) -> Matrix:
        """Everything that may be permitted, and must be."""
        world, found = self._world, Matrix()
        index, dom0 = world.names.index, 1 << world.dom0

        def put(subjects: int, targets: int, grants: Grants) -> None:
            if not targets:
                return
            for cls, permissions in grants.items():
                here = permissions & frozenset(world.tables.classes[cls])
                found.add(each(subjects), targets, cls, here)

        for sid, grants in expected.DOM0_ON_HOST.items():
            put(dom0, 1 << index[f"{sid}_t"], grants)
        unlabeled, xen = 1 << index["unlabeled_t"], 1 << index["xen_t"]
        put(1 << index["xenboot_t"], dom0, expected.BOOT_ON_DOM0)
        put(dom0, world.carried | unlabeled, expected.DOM0_CLEANUP)
        put(dom0, (world.carried | unlabeled) & ~world.manager, expected.DOM0_ENDS)
        security = 1 << index["security_t"]
        put(world.manager or dom0, security, expected.MONITOR_ON_SECURITY)
        if world.manager:
            put(world.manager, security, expected.KEEPER_ON_SECURITY)
            put(world.manager, dom0 | world.carried | unlabeled | 1 << self._type(SELF),
                expected.MANAGER_ON_DOMAINS)
        put(world.carried, world.carried | unlabeled, expected.VM_CLEANUP)
        put(world.carried, xen, expected.VM_ON_XEN)
        if world.carried:
            put(world.carried, 1 << self._type(SELF), expected.VM_ON_ITSELF)
        self._with_dom0(put)
        self._between(put)
        hardware.grants(put)
        if hardware.pci_users:
            put(hardware.pci_users, 1 << self._type(SELF), expected.PCI_USER_ON_ITSELF)
        return found

    def _with_dom0(self, put: expected.Put) -> None:
        world, host, permits = self._world, self._world.policy.host.dom0, self._world.server.permits
        for mechanism, asked in expected.ASKS.items():
            down = up = 0
            asked_up = expected.ASKS_UP.get(mechanism, asked)
            for name, at in world.at.items():
                down |= permits(host, name, asked) << at
                up |= permits(name, host, asked_up) << at
            put(1 << world.dom0, down & ~world.locked, expected.DOM0_ON_VM[mechanism])
            put(1 << world.dom0, down & world.locked, expected.DOM0_ON_LOCKED[mechanism])
            put(up, 1 << world.dom0, expected.VM_ON_DOM0[mechanism])
            if mechanism is Mechanism.EVENT and down:
                channel = 1 << self._type(CHANNEL)
                put(1 << world.dom0, channel, expected.DOM0_ON_CHANNEL)
                put(channel, down, expected.CHANNEL_ON_VM)

    def _between(self, put: expected.Put) -> None:
        """Every ordered pair of VM labels, the same label twice included."""
        world = self._world
        for operation, cls, permission, forward in expected.BETWEEN_VMS:
            rows = world.permitted(operation)
            if not forward:
                rows = transposed(rows, world.members)
            for number, targets in rows.items():
                put(world.members[number], targets, {cls: frozenset({permission})})
        for operation in expected.NEVER_BETWEEN_VMS:
            for number, targets in world.permitted(operation).items():
                # The policy permits what the encoding cannot grant: never happens silently.
                put(world.members[number], targets, expected.IMPOSSIBLE)
        self._objects(put)
        self._ordinary_events(put)
        for label, (told, heard) in self._trusted.items():
            self._events_of_trusted(1 << label, told, heard, put)

    def _objects(self, put: expected.Put) -> None:
        """What is answered to object managers, and that they may ask."""
        world = self._world
        if not world.managers:
            return
        security = 1 << world.names.index["security_t"]
        put(world.managers, security, expected.MANAGER_ON_SECURITY)
        for operation, cls, permission in expected.ON_OBJECTS:
            for number, targets in world.permitted(operation).items():
                put(world.members[number], targets, {cls: frozenset({permission})})

    def _ordinary_events(self, put: expected.Put) -> None:
        """Opening one's own end and notifying by it shows no level; binding it decides."""
        world = self._world
        ordinary = world.guests & ~world.trusted
        for number, targets in world.permitted(Operation.EVENT_SEND).items():
            put(world.members[number] & ordinary, targets & ordinary, expected.BIND)
        flat = SecurityServer(without_levels(world.policy))
        members: dict[int, int] = {}
        for name, at in world.at.items():
            number = flat.classes.of[name]
            members[number] = members.get(number, 0) | 1 << at
        for number, targets in permitted(flat, members)[Operation.EVENT_SEND].items():
            put(members[number] & ordinary, targets & ordinary, expected.OPEN_AND_NOTIFY)

    def _events_of_trusted(self, own: int, told: int, heard: int, put: expected.Put) -> None:
        """``own`` is one trusted label; the rest are its peers."""
        if told:
            end = 1 << self._type(SPEAKING)
            put(own, end, expected.OPEN_AND_NOTIFY)
            put(end, told, expected.BIND)
        if heard & ~told:
            end = 1 << self._type(MUTE)
            put(own, end, expected.OPEN)
            put(end, heard & ~told, expected.BIND)
        # An ordinary peer's end carries the trusted label's type.
        ordinary = ~self._world.trusted
        if (told | heard) & ordinary:
            put((told | heard) & ordinary, own, expected.OPEN)
            put(own, own, expected.BIND)
        put(heard & ordinary, own, expected.NOTIFY)


def without_levels(policy: Policy) -> Policy:
    """The same policy in which no level keeps anybody apart."""
    return replace(
        policy, levels=None, integrity=None,
        labels={
            name: replace(label, level=None, integrity=None)
            for name, label in policy.labels.items()
        },
    )
