"""Translate a binary policy into JSON. Run by the system's Python, which has SETools.

Not imported by shype: `reader` runs this file as ``/usr/bin/python3 -I FILE
POLICY``.  It knows nothing of how shype encodes policies.  Exit codes: 0, 3 no
SETools, 4 the file is not a policy that can be read.
"""

from __future__ import annotations

import json
import struct
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


class _Contexts:
    """Contexts of the initial SIDs, read from the file itself.

    SETools 4.4.1 names the initial SIDs of old Xen releases and stumbles over
    the newer ones. On disk (all 32 bit, little endian, but for the maps) an
    entry is number, user, role, type, then a range: the number of levels (1 if
    both ends are the same), the sensitivities, and one set of categories each:
    unit size 64, bits in use, number of units, and per unit its first bit and a
    map of 64 bits. checkpolicy writes the last SID first, secilc the first. Without
    MLS the sensitivity is 0, which is given here as s0.
    """

    def __init__(
        self, data: bytes, types: list[str], users: list[str], roles: list[str], *, mls: bool
    ) -> None:
        self._data = data
        self._mls = mls
        self._types = self._values(types)
        # object_r is always the first role; of more than one other, the numbers are not known.
        others = [role for role in roles if role != "object_r"]
        self._roles = {1: "object_r", **({2: others[0]} if len(others) == 1 else {})}
        self._users = {1: users[0]} if len(users) == 1 else {}

    def _values(self, types: list[str]) -> dict[int, str]:
        """Types by number: length of the name, number, properties (1: primary), bounds, name."""
        names: dict[int, str] = {}
        for name in types:
            raw = name.encode()
            at = self._data.find(raw)
            while at >= 0:
                if at >= 16:
                    length, value, kind, bounds = struct.unpack_from("<4I", self._data, at - 16)
                    if (length, kind, bounds) == (len(raw), 1, 0) and 0 < value < 65536:
                        names[value] = name
                        break
                at = self._data.find(raw, at + 1)
        return names

    def initial(self, count: int) -> list[str]:
        """Contexts of the initial SIDs 1 to ``count``, in order."""
        found = []
        for first in {1, count}:
            start = struct.pack("<II", count, first)
            at = self._data.find(start)
            while at >= 0:
                with suppress(ValueError, struct.error, KeyError):
                    found.append(self._section(at + 4, count))
                at = self._data.find(start, at + 1)
        if len(found) != 1:
            raise ValueError("the contexts of the initial SIDs cannot be found")
        return found[0]

    def _section(self, at: int, count: int) -> list[str]:
        contexts: dict[int, str] = {}
        for _ in range(count):
            number, user, role, type_, ends = struct.unpack_from("<5I", self._data, at)
            if not 0 < number <= count or number in contexts or ends not in (1, 2):
                raise ValueError("no list of contexts")
            at += 20
            sensitivities = struct.unpack_from(f"<{ends}I", self._data, at)
            at += 4 * ends
            levels = []
            for sensitivity in sensitivities:
                at, categories = self._set(at)
                if not (0 < sensitivity < 65536 if self._mls else sensitivity == 0):
                    raise ValueError("no sensitivity")
                names = ",".join(f"c{bit}" for bit in categories)
                levels.append(f"s{max(sensitivity - 1, 0)}" + (f":{names}" if names else ""))
            who = f"{self._users.get(user, user)}:{self._roles.get(role, role)}"
            contexts[number] = f"{who}:{self._types[type_]}:{'-'.join(levels)}"
        return [contexts[number] for number in range(1, count + 1)]

    def _set(self, at: int) -> tuple[int, list[int]]:
        unit, _, count = struct.unpack_from("<3I", self._data, at)
        if unit != 64 or count > 4096:
            raise ValueError("no set")
        at += 12
        members = []
        for _ in range(count):
            first, bits = struct.unpack_from("<IQ", self._data, at)
            members += [first + i for i in range(64) if bits >> i & 1]
            at += 12
        return at, members


class _Rules:
    """Type enforcement rules, sorted by kind."""

    def __init__(self, policy: Any, setools: Any) -> None:
        self._setools = setools
        self._conditions: dict[str, int] = {}
        self.allows: list[list[object]] = []
        self.transitions: list[list[str]] = []
        self.expressions: list[list[str]] = []
        self.other: list[str] = []
        kinds = setools.TERuletype
        for rule in policy.terules():
            if rule.ruletype == kinds.dontaudit:
                continue
            index, branch = self._condition(rule)
            if rule.ruletype == kinds.allow:
                self.allows.append([
                    str(rule.source), str(rule.target), str(rule.tclass), sorted(rule.perms),
                    index, branch,
                ])
            elif rule.ruletype == kinds.type_transition and index < 0 and self._plain(rule):
                self.transitions.append([
                    str(rule.source), str(rule.target), str(rule.tclass), str(rule.default),
                ])
            else:
                self.other.append(str(rule))

    def _condition(self, rule: Any) -> tuple[int, bool]:
        try:
            condition = rule.conditional
        except self._setools.exception.RuleNotConditional:
            return -1, True
        tokens = [str(node) for node in condition.expression()]
        index = self._conditions.setdefault(" ".join(tokens), len(self.expressions))
        if index == len(self.expressions):
            self.expressions.append(tokens)
        return index, bool(rule.conditional_block)

    def _plain(self, rule: Any) -> bool:
        """Whether a type transition holds for every object, not only one with a certain name."""
        try:
            return rule.filename is None
        except (AttributeError, self._setools.exception.TERuleNoFilename):
            return True


def constraints(policy: Any, setools: Any) -> tuple[list[list[object]], list[str]]:
    """(Kind, class, permissions, postfix expression with sets as lists), and all others."""
    known: list[list[object]] = []
    other: list[str] = []
    kinds = setools.ConstraintRuletype
    for item in policy.constraints():
        if item.ruletype not in (kinds.constrain, kinds.mlsconstrain):
            other.append(str(item))
            continue
        tokens = [
            token if isinstance(token, str) else sorted(str(name) for name in token)
            for token in item.expression
        ]
        known.append([str(item.ruletype), str(item.tclass), sorted(item.perms), tokens])
    return known, other


def objects(policy: Any) -> list[list[object]]:
    """(Kind, first, last, context) in the order of the file, in which the hypervisor looks."""
    found: list[list[object]] = []
    for item in policy.pirqcons():
        found.append(["irq", int(item.irq), int(item.irq), str(item.context)])
    for item in policy.ioportcons():
        found.append(["ioport", int(item.ports.low), int(item.ports.high), str(item.context)])
    for item in policy.iomemcons():
        found.append(["memory", int(item.addr.low), int(item.addr.high), str(item.context)])
    for item in policy.pcidevicecons():
        found.append(["pci", int(item.device), int(item.device), str(item.context)])
    return found


def numbered(items: Any) -> list[str]:
    """Names in the order of their numbers, by which the hypervisor compares."""
    found = sorted((int(item._value), str(item)) for item in items)
    if [number for number, _ in found] != [*range(1, len(found) + 1)]:
        raise ValueError("levels or categories are not numbered from 1")
    return [name for _, name in found]


def translate(path: str, setools: Any) -> dict[str, object]:
    """The whole policy; whatever has no place of its own is listed under ``other``."""
    policy = setools.SELinuxPolicy(path)
    rules = _Rules(policy, setools)
    constraining, other = constraints(policy, setools)
    other += rules.other
    for group in (
        policy.rbacrules(), policy.mlsrules(), policy.bounds(), policy.defaults(),
        policy.polcaps(), policy.devicetreecons(),
    ):
        other.extend(str(item) for item in group)
    types = sorted(str(type_) for type_ in policy.types())
    other.extend(f"permissive {type_};" for type_ in policy.types() if type_.ispermissive)
    users = [str(user) for user in policy.users()]
    roles = {str(role): sorted(str(type_) for type_ in role.types()) for role in policy.roles()}
    mls = bool(policy.mls)
    contexts = _Contexts(Path(path).read_bytes(), types, users, [*roles], mls=mls)
    return {
        "reader": f"setools {setools.__version__}",
        "platform": str(policy.target_platform),
        "version": int(policy.version),
        "mls": mls,
        "unknown": str(policy.handle_unknown),
        "classes": {str(cls): sorted(_permissions(cls, setools)) for cls in policy.classes()},
        "types": types,
        "aliases": {
            str(alias): str(type_) for type_ in policy.types() for alias in type_.aliases()
        },
        "attributes": {
            str(attribute): sorted(str(type_) for type_ in attribute.expand())
            for attribute in policy.typeattributes()
        },
        "allows": rules.allows,
        "expressions": rules.expressions,
        "transitions": rules.transitions,
        "constraints": constraining,
        "booleans": {str(boolean): bool(boolean.state) for boolean in policy.bools()},
        "roles": roles,
        "users": [user.statement() for user in policy.users()],
        "levels": {str(level).partition(":")[0]: str(level) for level in policy.levels()},
        "sensitivities": numbered(policy.sensitivities()),
        "categories": numbered(policy.categories()),
        "sids": contexts.initial(int(policy.initialsids_count)),
        "objects": objects(policy),
        "other": other,
    }


def _permissions(cls: Any, setools: Any) -> set[str]:
    perms: set[str] = set(cls.perms)
    with suppress(setools.exception.NoCommon):
        perms |= set(cls.common.perms)
    return perms


def main(path: str) -> int:
    """Print the policy at ``path`` as one JSON document."""
    try:
        setools = import_module("setools")
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    try:
        json.dump(translate(path, setools), sys.stdout)
    except Exception as error:  # noqa: BLE001 - a damaged file can make SETools raise anything
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 4
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
