"""The direct flows of a policy, by mechanism: one row of bits per vertex.

The security server decides; nothing here knows a rule. Between two labels it
is asked by classes (`SecurityServer.vectors`), for a resource by entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from shype.analysis.flows.carrying import TOGETHER, carried
from shype.analysis.flows.present import Present
from shype.analysis.flows.vertex import Role, Vertex
from shype.analysis.state import Use
from shype.base import bits
from shype.decision.chinese_wall import ChineseWall
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy, Resource, ResourceKind
from shype.policy.names import CoalitionName, LabelName, MemberName
from shype.policy.resources import label_key

#: By mechanism, or by the kind of a resource (a disk and a network are both).
Rows = Mapping[str, list[int]]


def vertices(server: SecurityServer, present: Present | None = None) -> list[Vertex]:
    """A vertex per group of labels with the same rights, wall members and role; then resources.

    With ``present``, of the labels that run (alike only if their VMs use the
    same), and the resources that are in use. Tombstones take part in nothing.
    """
    policy = server.policy
    alike: dict[tuple[object, ...], list[LabelName]] = defaultdict(list)
    for label, held in policy.labels.items():
        if present is None or label in present.domains or label == policy.host.dom0:
            # Of what runs, labels that are alike may still be elsewhere, or use other disks.
            own = None if present is None else (
                present.uses.get(label), frozenset(present.hosts.get(label, ())))
            key = server.classes.of[label], held.members, role(policy, label), own
            alike[key].append(label)
    found = [Vertex(role(policy, names[0]), tuple(names)) for names in alike.values()]
    for kind, entry, name in _things(policy, present):
        resource = policy.unlabeled_resources if entry is None else entry.label
        if resource is not None and not resource.inaccessible:
            found.append(Vertex(Role.RESOURCE, (), kind, entry, f"{kind}:{name}"))
    return found


def _things(
    policy: Policy, present: Present | None
) -> Iterator[tuple[ResourceKind, Resource | None, str]]:
    """The resources that get a vertex, and how they are shown."""
    used = {(a.kind, a.name): a.entry for a in present.attached} if present else {}
    for (kind, name), entry in used.items():
        yield kind, entry, name
    if present is not None and None not in present.uses.values():
        return
    for entry in policy.resources:
        if (entry.kind, entry.pattern) not in used:
            yield entry.kind, entry, entry.pattern
    if policy.unlabeled_resources is not None:
        for kind in ResourceKind:
            yield kind, None, "*"


def role(policy: Policy, label: LabelName) -> Role:
    """What a label is to the graph."""
    if label == policy.host.dom0:
        return Role.DOM0
    if label in policy.guards:
        return Role.GUARD
    return Role.DRIVER if label in policy.host.drivers else Role.LABEL


class Edges:
    """All direct flows between ``vertices``: ``rows[mechanism][x]`` has bit y iff x flows to y."""

    def __init__(
        self, server: SecurityServer, vertices: Sequence[Vertex], present: Present | None = None
    ) -> None:
        self._server, self._vertices, self._present = server, vertices, present
        self.rows: dict[str, list[int]] = {}
        #: Per vertex, those that the wall lets run beside it, on one host.
        self.permitted = self._permitted()
        #: The same, of those that do run there, if that is known.
        self.beside = self.permitted if present is None else self._on_one_host(present)
        #: Per vertex, those into whose pages it may copy out of its own.
        self.copied = [0] * len(vertices)
        by_class: dict[int, int] = defaultdict(int)
        for index, vertex in enumerate(vertices):
            if vertex.labels:
                by_class[server.classes.of[vertex.labels[0]]] |= 1 << index
        self._between_labels(by_class)
        self._resources(by_class)
        if present is not None:
            self._only_used(present)

    def _row(self, rows: dict[str, list[int]], mechanism: str) -> list[int]:
        row = rows.get(mechanism)
        if row is None:
            row = rows[mechanism] = [0] * len(self._vertices)
        return row

    def _between_labels(self, by_class: Mapping[int, int]) -> None:
        back: dict[str, list[int]] = {}
        alone = all(number == vertex.bit_length() - 1 and vertex.bit_count() == 1
                    for number, vertex in by_class.items())
        for number, subjects in by_class.items():
            for vector, classes in self._server.groups(number):
                objects = classes if alone else _union(
                    by_class[other] for other in bits.each(classes) if other in by_class
                )
                for (mechanism, ahead), operations in carried(vector).items():
                    row = self._row(self.rows if ahead else back, mechanism)
                    for subject in bits.each(subjects):
                        near = self.beside[subject] if mechanism in TOGETHER else -1
                        row[subject] |= objects & near
                        if Operation.COPY_TO in operations:
                            self.copied[subject] |= objects & near
        for name, rows in back.items():
            row = self._row(self.rows, name)
            for index, more in enumerate(bits.transposed(rows, len(rows))):
                row[index] |= more

    def _permitted(self) -> list[int]:
        policy = self._server.policy
        wall = ChineseWall({name: wall.members for name, wall in policy.walls.items()})
        held = [
            policy.labels[v.labels[0]].members if v.labels else frozenset[MemberName]()
            for v in self._vertices
        ]
        holders: dict[MemberName, list[int]] = defaultdict(list)
        for index, members in enumerate(held):
            for member in members:
                holders[member].append(index)
        sets = {member: bits.of(some) for member, some in holders.items()}
        everybody = (1 << len(held)) - 1
        known: dict[frozenset[MemberName], int] = {}
        for members in held:
            if members not in known:
                excluded = (sets.get(member, 0) for member in wall.excluded(members))
                known[members] = everybody & ~_union(excluded)
        return [known[members] for members in held]

    def _on_one_host(self, present: Present) -> list[int]:
        """A vertex is beside itself only if two VMs of it run on one host. dom0 is everywhere."""
        counts: list[dict[int, int]] = []
        for vertex in self._vertices:
            counts.append(defaultdict(int))
            for label in vertex.labels:
                for host, number in present.hosts.get(label, {}).items():
                    counts[-1][host] += number
        on: dict[int, list[int]] = defaultdict(list)
        for index, hosts in enumerate(counts):
            for host in hosts:
                on[host].append(index)
        everywhere = bits.of(
            index for index, vertex in enumerate(self._vertices) if vertex.role is Role.DOM0
        )
        there = {host: bits.of(some) | everywhere for host, some in on.items()}
        found = []
        for index, near in enumerate(self.permitted):
            hosts = counts[index]
            same = _union(there[host] for host in hosts)
            if everywhere >> index & 1:
                same = -1
            elif all(number < 2 for number in hosts.values()):
                same &= ~(1 << index)
            found.append(near & same)
        return found

    def _resources(self, by_class: Mapping[int, int]) -> None:
        server, policy = self._server, self._server.policy
        dom0 = server.classes.of[policy.host.dom0]
        known: dict[object, dict[Access, int]] = {}
        for index, vertex in enumerate(self._vertices):
            if vertex.kind is None:
                continue
            label = policy.unlabeled_resources if vertex.entry is None else vertex.entry.label
            assert label is not None  # no vertex is made for what nobody may use
            key = vertex.kind, label_key(label)
            if key not in known:
                near = _near(server, label.coalitions) - {dom0}
                known[key] = {
                    access: _union(
                        by_class[number] for number in near if number in by_class
                        and server.class_may_use(number, vertex.kind, label, access)
                    ) for access in (Access.READ, Access.WRITE)
                }
            row = self._row(self.rows, vertex.kind)
            row[index] |= known[key][Access.READ]
            for writer in bits.each(known[key][Access.WRITE]):
                row[writer] |= 1 << index

    def _only_used(self, present: Present) -> None:
        """Drop what the VMs that run do not use; what nobody knows of stays."""
        known: dict[int, frozenset[Use]] = {}
        for index, vertex in enumerate(self._vertices):
            used = present.uses.get(vertex.labels[0]) if vertex.labels else None
            if used is not None:
                known[index] = used
        told = bits.of(known)
        self._only_shared_bridges(known, told)
        for index, vertex in enumerate(self._vertices):
            if vertex.labels and sum(len(present.domains.get(n, ())) for n in vertex.labels) < 2:
                for mechanism in (Mechanism.DISK, Mechanism.NETWORK):
                    self._row(self.rows, mechanism)[index] &= ~(1 << index)
        # For disks, their own vertices say who uses them, and who only reads.
        for index in known:
            self._row(self.rows, Mechanism.DISK)[index] &= ~told
        for thing, vertex in enumerate(self._vertices):
            if vertex.kind is None:
                continue
            name, rows = vertex.resource.removeprefix(f"{vertex.kind}:"), self.rows[vertex.kind]
            for index, used in known.items():
                does = {u.access for u in used if (u.kind, u.name) == (vertex.kind, name)}
                if not does & {Access.WRITE, Access.READ_WRITE}:
                    rows[index] &= ~(1 << thing)
                if not does & {Access.READ, Access.READ_WRITE}:
                    rows[thing] &= ~(1 << index)

    def _only_shared_bridges(self, known: Mapping[int, frozenset[Use]], told: int) -> None:
        """Two VMs send each other frames only if they have a bridge in common."""
        on: dict[str, list[int]] = defaultdict(list)
        for index, used in known.items():
            for use in used:
                if use.kind is ResourceKind.NETWORK:
                    on[use.name].append(index)
        sets = {name: bits.of(some) for name, some in on.items()}
        rows = self._row(self.rows, Mechanism.NETWORK)
        for index, used in known.items():
            beside = _union(sets[u.name] for u in used if u.kind is ResourceKind.NETWORK)
            rows[index] &= ~told | beside


def _near(server: SecurityServer, coalitions: Iterable[CoalitionName]) -> set[int]:
    return {number for c in coalitions for number in server.classes.in_coalition[c]}


def _union(sets: Iterable[int]) -> int:
    found = 0
    for some in sets:
        found |= some
    return found
