"""What object managers need: a class of objects that are their own, and the right to ask.

An object manager is a VM that serves several labels (a storage domain, a database guard).
Its objects are unknown to the hypervisor, whose security server decides about them all the
same: the policy has one class after those of the hypervisor, which refuses none that it does
not know (validate_classes() in xen/xsm/flask/ss/services.c looks at its own only).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from shype.compile.flask import encoding as enc
from shype.compile.flask.rules import Allow
from shype.compile.flask.tables import Tables
from shype.decision.ids import PERMISSIONS
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.decision.sharing import INDEX
from shype.policy.model import Label, Policy
from shype.policy.names import LabelName

#: The class of what an object manager keeps for others, and what can be done to it.
CLASS = "shype"
#: Its permissions, and the operation that decides about each: an object is, to a VM, what a disk
#: is to which the VM of the object's label writes.
_ASKED: Mapping[str, Operation] = MappingProxyType({
    "read": Operation.DISK_READ, "write": Operation.DISK_WRITE,
})


@dataclass(frozen=True, slots=True)
class Objects:
    """Attributes and rules; none without an object manager."""

    attributes: dict[str, list[str]]
    rules: list[Allow]


def managers(policy: Policy) -> tuple[Label, ...]:
    """The VM labels that are object managers."""
    return tuple(label for label in policy.guests if label.object_manager)


def with_class(policy: Policy, tables: Tables) -> Tables:
    """``tables``, with the class of objects if ``policy`` has an object manager."""
    if not managers(policy):
        return tables
    return replace(tables, classes={**tables.classes, CLASS: tuple(_ASKED)})


def rules_of(policy: Policy, server: SecurityServer) -> Objects:
    """Who may read and write whose objects, as the security server decides; and who may ask."""
    found = Objects({}, [])
    if not managers(policy):
        return found
    for label in managers(policy):
        found.rules.append(Allow(
            enc.type_of(label.name), enc.sid_type("security"), "security",
            ("check_context", "compute_av"),
            "an object manager asks what the policy says of its peers; asking changes nothing",
        ))
    members: dict[int, list[LabelName]] = defaultdict(list)
    for label in policy.guests:
        members[server.classes.of[label.name]].append(label.name)
    sets = _Sets(found.attributes)
    for permission, operation in _ASKED.items():
        # Classes with the same objects have one rule.
        subjects: dict[tuple[int, ...], list[LabelName]] = defaultdict(list)
        for number, names in members.items():
            row = server.vectors(number)
            objects = tuple(sorted(
                other for other, vector in row.items()
                if other in members and vector[INDEX[operation]] in PERMISSIONS
            ))
            if objects:
                subjects[objects] += names
        for objects, names in subjects.items():
            targets = [name for number in objects for name in members[number]]
            found.rules.append(Allow(
                sets.of("askers", names), sets.of("objects", targets), CLASS, (permission,),
                "answered to object managers: what these labels may do with those labels' objects",
            ))
    return found


class _Sets:
    """Names for sets of labels, each set once."""

    def __init__(self, attributes: dict[str, list[str]]) -> None:
        self._attributes = attributes
        self._known: dict[frozenset[LabelName], str] = {}

    def of(self, word: str, names: list[LabelName]) -> str:
        """A type, or an attribute that begins with ``word`` unless the set has a name already."""
        if len(names) == 1:
            return enc.type_of(names[0])
        key = frozenset(names)
        if key not in self._known:
            self._known[key] = name = f"{word}{len(self._known) + 1}"
            self._attributes[name] = [enc.type_of(label) for label in names]
        return self._known[key]
