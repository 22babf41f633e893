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

#: SETools 4.4.1 names the initial SIDs of old Xen releases and stumbles over the
#: newer ones, so their contexts are read from the file itself. On disk an entry is
#: number, user, role, type, then a range of one level: count, sensitivity, and an
#: empty category set (unit size 64, highest bit 0, no nodes); all 32 bit, little endian.
_ENTRY = struct.Struct("<9I")


def initial_sids(data: bytes, types: list[str], count: int) -> list[str]:
    """Types of the initial SIDs 1 to ``count``, in order."""
    names: dict[int, str] = {}
    for name in types:
        # A type on disk: length of its name, value, properties (1: primary), bounds, name.
        raw = name.encode()
        at = data.find(raw)
        while at >= 0:
            if at >= 16:
                length, value, properties, bounds = struct.unpack_from("<4I", data, at - 16)
                if (length, properties, bounds) == (len(raw), 1, 0) and 0 < value < 65536:
                    names[value] = name
                    break
            at = data.find(raw, at + 1)
    size = _ENTRY.size
    start = struct.pack("<II", count, 1)
    found: list[list[str]] = []
    at = data.find(start)
    while at >= 0:
        rows = [
            _ENTRY.unpack_from(data, at + 4 + i * size)
            for i in range(count) if at + 4 + (i + 1) * size <= len(data)
        ]
        plain = all(row[4:] == (1, 1, 64, 0, 0) and row[3] in names for row in rows)
        if len(rows) == count and [row[0] for row in rows] == [*range(1, count + 1)] and plain:
            found.append([names[row[3]] for row in rows])
        at = data.find(start, at + 1)
    if len(found) != 1:
        raise ValueError("the contexts of the initial SIDs cannot be found")
    return found[0]


def translate(path: str, setools: Any) -> dict[str, object]:
    """The whole policy; whatever has no place of its own is listed under ``other``."""
    policy = setools.SELinuxPolicy(path)
    kinds = setools.TERuletype
    allows: list[list[object]] = []
    transitions: list[list[str]] = []
    silent = (kinds.dontaudit,)
    other: list[str] = []
    conditions: dict[str, int] = {}
    expressions: list[list[str]] = []
    for rule in policy.terules():
        if rule.ruletype in silent:
            continue
        try:
            condition = rule.conditional
        except setools.exception.RuleNotConditional:
            index, branch = -1, True
        else:
            tokens = [str(node) for node in condition.expression()]
            key = " ".join(tokens)
            index = conditions.setdefault(key, len(expressions))
            if index == len(expressions):
                expressions.append(tokens)
            branch = bool(rule.conditional_block)
        if rule.ruletype == kinds.allow:
            allows.append([
                str(rule.source), str(rule.target), str(rule.tclass), sorted(rule.perms),
                index, branch,
            ])
        elif rule.ruletype == kinds.type_transition and index < 0 and _plain(rule, setools):
            transitions.append([
                str(rule.source), str(rule.target), str(rule.tclass), str(rule.default),
            ])
        else:
            other.append(str(rule))
    for group in (
        policy.constraints(), policy.rbacrules(), policy.mlsrules(), policy.bounds(),
        policy.defaults(), policy.polcaps(), policy.pirqcons(), policy.ioportcons(),
        policy.iomemcons(), policy.pcidevicecons(), policy.devicetreecons(),
    ):
        other.extend(str(item) for item in group)
    types = sorted(str(type_) for type_ in policy.types())
    other.extend(f"permissive {type_};" for type_ in policy.types() if type_.ispermissive)
    return {
        "reader": f"setools {setools.__version__}",
        "platform": str(policy.target_platform),
        "version": int(policy.version),
        "mls": bool(policy.mls),
        "unknown": str(policy.handle_unknown),
        "classes": {str(cls): sorted(_permissions(cls, setools)) for cls in policy.classes()},
        "types": types,
        "attributes": {
            str(attribute): sorted(str(type_) for type_ in attribute.expand())
            for attribute in policy.typeattributes()
        },
        "allows": allows,
        "expressions": expressions,
        "transitions": transitions,
        "booleans": {str(boolean): bool(boolean.state) for boolean in policy.bools()},
        "roles": {
            str(role): sorted(str(type_) for type_ in role.types()) for role in policy.roles()
        },
        "users": [user.statement() for user in policy.users()],
        "sids": initial_sids(Path(path).read_bytes(), types, int(policy.initialsids_count)),
        "other": other,
    }


def _plain(rule: Any, setools: Any) -> bool:
    """Whether a type transition holds for every object, not only for one with a certain name."""
    try:
        return rule.filename is None
    except (AttributeError, setools.exception.TERuleNoFilename):
        return True


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
