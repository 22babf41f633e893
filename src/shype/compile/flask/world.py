"""What every part of translation validation looks at: a policy beside its binary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from shype.base.bits import each
from shype.compile.flask.encoding import dom0_entry, label_entries, type_of
from shype.compile.flask.matrix import Names
from shype.compile.flask.mismatch import Mismatch
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.reader import Binary, Context, context
from shype.compile.flask.tables import Tables
from shype.decision.ids import PERMISSIONS
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.decision.sharing import INDEX
from shype.policy.model import Label, Policy

#: The role of every object: security_compute_sid() in xen/xsm/flask/ss/services.c.
OBJECT_ROLE = "object_r"
#: By class of subjects, a mask of targets.
Rows = Mapping[int, int]
LOWEST = MlsRange(MlsLevel(0), MlsLevel(0))


class World:
    """Types by index and what they stand for, and the security server's verdicts as masks.

    ``at`` maps VM labels to the index of their type; ``contexts`` has the
    context of every type as the hypervisor meets it: that of the manifest for
    a label, for another type its lowest.
    """

    def __init__(self, policy: Policy, tables: Tables, binary: Binary) -> None:
        self.policy, self.tables, self.binary = policy, tables, binary
        self.server = SecurityServer(policy)
        self.names = Names(binary.types, binary.attributes)
        self.entries = label_entries(policy)
        self.dom0_type = dom0_entry(policy).type
        index = self.names.index
        self.at = {name: index[entry.type] for name, entry in self.entries.items()}
        self.retired = {name: index[type_of(name)] for name in policy.retired}
        self.dom0 = index[self.dom0_type]
        self.labels = {i: name for name, i in self.at.items()}
        self.guests = sum(1 << i for i in self.at.values())
        self.carried = self.guests | sum(1 << i for i in self.retired.values())
        self.label_of: dict[int, str] = {**self.labels}
        self.label_of |= {i: name for name, i in self.retired.items()}
        self.label_of[self.dom0] = policy.host.dom0
        self.contexts = self._contexts()
        self.trusted = sum(
            1 << self.at[label.name] for label in policy.guests if _trusted(policy, label)
        )
        self.manager = 0 if policy.host.manager is None else 1 << self.at[policy.host.manager]
        #: Those that dom0 reaches into in their launch windows only.
        self.locked = sum(1 << self.at[label.name] for label in policy.guests if label.locked)
        #: Those that may ask for decisions.
        self.managers = sum(
            1 << self.at[label.name] for label in policy.guests if label.object_manager)
        #: Members of each class of VM labels.
        self.members: dict[int, int] = defaultdict(int)
        for name, i in self.at.items():
            self.members[self.server.classes.of[name]] |= 1 << i
        self._rows = permitted(self.server, self.members)

    def _contexts(self) -> list[Context]:
        found = {
            type_: Context("u", OBJECT_ROLE, type_, LOWEST) for type_ in self.names.types
        }
        found |= {item.context.type: item.context for item in self.binary.objects}
        found |= {sid.type: sid for sid in self.binary.sids}
        for entry in self.entries.values():
            found[entry.type] = context(entry.context)
        found[self.dom0_type] = context(dom0_entry(self.policy).context)
        return [found[type_] for type_ in self.names.types]

    def permitted(self, operation: Operation) -> Rows:
        """For every class of VM labels, the VM labels on which it may do ``operation``."""
        return self._rows[operation]

    def name(self, index: int) -> str:
        """A label's name, or a type's where no label stands behind it."""
        return self.label_of.get(index, self.names.types[index])

    def report(
        self, subject: int, targets: int, what: str, policy: str, binary: str
    ) -> Iterator[Mismatch]:
        """One mismatch per target."""
        for target in each(targets):
            yield Mismatch(self.name(subject), self.name(target), what, policy, binary)


def permitted(server: SecurityServer, members: Mapping[int, int]) -> Mapping[Operation, Rows]:
    """For every operation and class in ``members``, the members on which it may do it."""
    rows: dict[Operation, dict[int, int]] = {op: dict.fromkeys(members, 0) for op in Operation}
    # Few different vectors occur. Each is kept, so that its id stays its own.
    known: dict[int, tuple[object, list[dict[int, int]]]] = {}
    for number in members:
        for other, vector in server.vectors(number).items():
            targets = members.get(other)
            if targets is None:
                continue
            if id(vector) not in known:
                known[id(vector)] = vector, [
                    rows[op] for op in Operation if vector[INDEX[op]] in PERMISSIONS
                ]
            for row in known[id(vector)][1]:
                row[number] |= targets
    return rows


def transposed(rows: Rows, members: Mapping[int, int]) -> Rows:
    """For every class, the union of the members of the classes whose row has it."""
    found = dict.fromkeys(members, 0)
    first = {(mask & -mask).bit_length() - 1: number for number, mask in members.items()}
    firsts = sum(1 << bit for bit in first)
    for number, targets in rows.items():
        for bit in each(targets & firsts):
            found[first[bit]] |= members[number]
    return found


def _trusted(policy: Policy, label: Label) -> bool:
    """Guards, and labels with a range: the levels of a check do not decide about them."""
    ranges = [r for r in (label.level, label.integrity) if r is not None]
    return label.name in policy.guards or any(r.low != r.high for r in ranges)
