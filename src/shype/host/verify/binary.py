"""Reads a binary FLASK policy (version 30, for Xen) as the hypervisor does.

Written from policydb_read() in xen/xsm/flask/ss/policydb.c, so that dom0, which
has no SETools, can say what the bundle's ``policy.bin`` permits.  Only what
`shype build` writes is understood: anything else is refused, never skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from shype.base.errors import BadInput

_START = b"\x8c\xff\x7c\xf9\x08\x00\x00\x00XenFlask" + struct.pack("<I", 30)
#: Kinds of rules (struct avtab_key); the others say what is audited.
_ALLOWED, _AUDITALLOW, _AUDITDENY, _TRANSITION = 1, 2, 4, 16
#: Set besides where a conditional rule held when the file was written.
_ENABLED = 0x8000
#: Kinds of a constraint's steps (struct constraint_expr).
_NAMES = 5
#: A rule's source, target and class, by value.
Key = tuple[int, int, int]
_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class Level:
    """A sensitivity (1 is the lowest) and its categories, bit 0 for the first."""

    sensitivity: int
    categories: int


@dataclass(frozen=True, slots=True)
class Context:
    """A security context, by value of its parts."""

    user: int
    role: int
    type: int
    low: Level
    high: Level


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a constraint's expression, in postfix order: struct constraint_expr."""

    kind: int
    attribute: int
    operator: int
    names: int


@dataclass(frozen=True, slots=True)
class Constraint:
    """What must hold for ``permissions`` (a mask)."""

    permissions: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Class:
    """An object class: its value, its permissions from bit 0 on, its constraints."""

    value: int
    permissions: tuple[str, ...]
    constraints: tuple[Constraint, ...]

    def names(self, vector: int) -> frozenset[str]:
        """The permissions of an access vector; a bit without a name is ``bit N``."""
        return frozenset(
            self.permissions[i] if i < len(self.permissions) else f"bit {i}"
            for i in range(32) if vector >> i & 1
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """Rules that hold if an expression of booleans (postfix) is true, or is false."""

    steps: tuple[tuple[int, int], ...]
    true: Mapping[Key, int]
    false: Mapping[Key, int]


@dataclass(frozen=True, slots=True)
class Binary:
    """The policy. Everything has its value in the file; ``types`` has the aliases as well.

    ``attributes`` are, by value of a type, the values of what it belongs to and of itself;
    ``primary`` are the types' own names by value.
    """

    classes: Mapping[str, Class]
    roles: Mapping[str, int]
    types: Mapping[str, int]
    primary: Mapping[int, str]
    users: Mapping[str, int]
    booleans: Mapping[str, int]
    sensitivities: Mapping[str, int]
    categories: Mapping[str, int]
    rules: Mapping[Key, int]
    transitions: Mapping[Key, int]
    conditions: tuple[Condition, ...]
    attributes: Mapping[int, tuple[int, ...]]
    sids: tuple[Context, ...]
    objects: tuple[Context, ...]


def read(data: bytes) -> Binary:
    """The policy in the bytes of a file. Raises BadInput (``bundle.unreadable``)."""
    try:
        return _policy(_Cursor(data))
    except (struct.error, ValueError, IndexError, RecursionError) as error:
        raise BadInput(
            "bundle.unreadable", f"policy.bin is not a policy as shype writes it: {error}",
            "build the bundle again",
        ) from error


def also_named(data: bytes, names: Mapping[str, str]) -> bytes:
    """The policy in ``data`` with more names (keys) for types that it has (values).

    A running domain whose type has such a name is then of that type.  Raises BadInput
    (``bundle.unreadable``), also for a name that the policy has and a type that it has not.
    """
    try:
        at = _Cursor(data)
        _head(at)
        begin = at.at
        count, size = at.words(2)
        types = {name: value for name, value, _ in (_type(at) for _ in range(size))}
        taken = [name for name in names if name in types]
        if taken:
            raise ValueError(f"it has a type {taken[0]}")
        more = b"".join(
            struct.pack("<4I", len(name), types[type_], 0, 0) + name.encode()
            for name, type_ in names.items())
        table = struct.pack("<2I", count, size + len(names)) + data[begin + 8:at.at] + more
        return data[:begin] + table + data[at.at:]
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise BadInput(
            "bundle.unreadable", f"policy.bin cannot be given more names of types: {error}",
            "build the bundle again",
        ) from error


class _Cursor:
    """What is left to read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def word(self) -> int:
        found: int = struct.unpack_from("<I", self._data, self.at)[0]
        self.at += 4
        return found

    def words(self, count: int) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{count}I", self._data, self.at)
        self.at += 4 * count
        return found

    def bytes(self, count: int) -> bytes:
        found = self._data[self.at:self.at + count]
        if len(found) != count:
            raise ValueError("it stops early")
        self.at += count
        return found

    def text(self, count: int) -> str:
        return self.bytes(count).decode("ascii")

    def bitmap(self) -> int:
        """struct ebitmap, as an integer."""
        unit, _, count = self.words(3)
        if unit != 64:
            raise ValueError("a set of another format")
        found = 0
        for _ in range(count):
            first, bits = struct.unpack_from("<IQ", self._data, self.at)
            if first > 1 << 20:
                raise ValueError("a set is too large")
            self.at += 12
            found |= bits << first
        return found

    def nothing(self, what: str) -> None:
        """A number of entries that must be zero."""
        if self.word():
            raise ValueError(f"it has {what}")

    def end(self) -> bool:
        return self.at == len(self._data)


def _head(at: _Cursor) -> tuple[dict[str, Class], dict[str, int]]:
    """All before the types: the classes and roles."""
    if at.bytes(len(_START)) != _START:
        raise ValueError("it is no policy for Xen of version 30")
    config, symbols, contexts = at.words(3)
    if (config & 1, symbols, contexts) != (1, 8, 6):
        raise ValueError("its tables are others")
    at.bitmap()  # capabilities: none that Xen knows
    if at.bitmap():
        raise ValueError("it has permissive types")
    at.word()
    at.nothing("common permissions")
    return _table(at, _class), _table(at, _role)


def _policy(at: _Cursor) -> Binary:
    classes, roles = _head(at)
    count, types = at.words(2)
    names: dict[str, int] = {}
    primary: dict[int, str] = {}
    for _ in range(types):
        name, value, own = _type(at)
        names[name] = value
        if own:
            primary[value] = name
    users = _table(at, _user)
    booleans = _table(at, _boolean)
    sensitivities = _table(at, _sensitivity)
    categories = _table(at, _category)
    rules, transitions = _avtab(at)
    conditions = tuple(_condition(at) for _ in range(at.word()))
    at.nothing("role transitions")
    for _ in range(at.word()):
        at.words(2)  # role allow rules play no part without role transitions
    at.nothing("transitions by file name")
    sids = tuple(_after(at, 4) for _ in range(at.word()))
    objects = [_after(at, 4) for _ in range(at.word())]
    objects += [_after(at, 8) for _ in range(at.word())]
    objects += [_after(at, 16) for _ in range(at.word())]
    objects += [_after(at, 4) for _ in range(at.word())]
    at.nothing("device tree contexts")
    at.nothing("file systems")
    at.nothing("range transitions")
    attributes = {
        value: tuple(_bits(at.bitmap() | 1 << value - 1)) for value in range(1, count + 1)
    }
    if not at.end():
        raise ValueError("something follows it")
    return Binary(
        classes, roles, names, primary, users, booleans, sensitivities, categories, rules,
        transitions, conditions, attributes, sids, tuple(objects),
    )


def _table(at: _Cursor, entry: Callable[[_Cursor], tuple[str, _Entry]]) -> dict[str, _Entry]:
    count = at.words(2)[1]
    return dict(entry(at) for _ in range(count))


def _bits(mask: int) -> list[int]:
    """Values (bit 0 stands for 1) of a set."""
    return [i + 1 for i in range(mask.bit_length()) if mask >> i & 1]


def _class(at: _Cursor) -> tuple[str, Class]:
    length, common, value, _, count, constraints = at.words(6)
    name = at.text(length)
    if common:
        raise ValueError("it has common permissions")
    permissions = {}
    for _ in range(count):
        size, bit = at.words(2)
        permissions[bit] = at.text(size)
    if sorted(permissions) != [*range(1, count + 1)]:
        raise ValueError(f"the permissions of {name} are not numbered 1 to {count}")
    found = tuple(_constraint(at) for _ in range(constraints))
    at.nothing("validatetrans rules")
    at.words(4)  # defaults of new objects: Xen ignores them
    return name, Class(value, tuple(permissions[i + 1] for i in range(count)), found)


def _constraint(at: _Cursor) -> Constraint:
    permissions, count = at.words(2)
    steps = []
    for _ in range(count):
        kind, attribute, operator = at.words(3)
        names = 0
        if kind == _NAMES:
            names = at.bitmap()
            at.bitmap()  # the same as written in the source, with attributes: not for Xen
            at.bitmap()
            at.word()
        steps.append(Step(kind, attribute, operator, names))
    return Constraint(permissions, tuple(steps))


def _role(at: _Cursor) -> tuple[str, int]:
    length, value, bounds = at.words(3)
    name = at.text(length)
    at.bitmap()
    at.bitmap()
    if bounds:
        raise ValueError("it has bounds")
    return name, value


def _type(at: _Cursor) -> tuple[str, int, bool]:
    length, value, properties, bounds = at.words(4)
    if bounds:
        raise ValueError("it has bounds")
    # A type by its own name is "primary" and no attribute (TYPEDATUM_PROPERTY_*).
    return at.text(length), value, properties & 3 == 1


def _user(at: _Cursor) -> tuple[str, int]:
    length, value, bounds = at.words(3)
    name = at.text(length)
    at.bitmap()
    _range(at)
    _level(at)
    if bounds:
        raise ValueError("it has bounds")
    return name, value


def _boolean(at: _Cursor) -> tuple[str, int]:
    value, _, length = at.words(3)
    return at.text(length), value


def _sensitivity(at: _Cursor) -> tuple[str, int]:
    length, alias = at.words(2)
    name = at.text(length)
    if alias:
        raise ValueError("it has another name for a level")
    return name, _level(at).sensitivity


def _category(at: _Cursor) -> tuple[str, int]:
    length, value, alias = at.words(3)
    if alias:
        raise ValueError("it has another name for a category")
    return at.text(length), value


def _level(at: _Cursor) -> Level:
    sensitivity = at.word()
    return Level(sensitivity, at.bitmap())


def _range(at: _Cursor) -> tuple[Level, Level]:
    count = at.word()
    if count not in (1, 2):
        raise ValueError("a range has another number of levels")
    sensitivities = at.words(count)
    levels = [Level(sensitivity, at.bitmap()) for sensitivity in sensitivities]
    return levels[0], levels[-1]


def _after(at: _Cursor, key: int) -> Context:
    """The context of an initial SID or an object, whose number takes ``key`` bytes."""
    at.bytes(key)
    user, role, type_ = at.words(3)
    return Context(user, role, type_, *_range(at))


def _avtab(at: _Cursor) -> tuple[dict[Key, int], dict[Key, int]]:
    """The rules that allow, and the transitions."""
    rules: dict[Key, int] = {}
    transitions: dict[Key, int] = {}
    for _ in range(at.word()):
        source, target, cls, kind = struct.unpack("<4H", at.bytes(8))
        kind &= ~_ENABLED
        data = at.word()
        if kind == _ALLOWED:
            rules[source, target, cls] = rules.get((source, target, cls), 0) | data
        elif kind == _TRANSITION:
            transitions[source, target, cls] = data
        elif kind not in (_AUDITALLOW, _AUDITDENY):
            raise ValueError(f"it has rules of kind {kind}")
    return rules, transitions


def _condition(at: _Cursor) -> Condition:
    at.word()  # what it was when the file was written
    steps = tuple((at.word(), at.word()) for _ in range(at.word()))
    branches = []
    for _ in range(2):
        rules, transitions = _avtab(at)
        if transitions:
            raise ValueError("it has conditional transitions")
        branches.append(rules)
    return Condition(steps, *branches)
