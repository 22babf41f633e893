"""What runs on a host, as a file says it (docs/reference/plan-state.md).

`shype ps --json` writes the domains; whoever knows more adds the resources
that they use and the channels that are open between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.decision.operation import Flow, Operation
from shype.decision.resources import Access
from shype.decision.wording import printable
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName

#: Largest state file, bytes.
LIMIT = 64 * 1024 * 1024
#: What `shype ps --json` says beside, and nothing follows from here.
_IGNORED = frozenset({"coalitions", "wall", "state"})


@dataclass(frozen=True, slots=True)
class Use:
    """A resource that a domain has attached; and what it does with it."""

    kind: ResourceKind
    name: str
    access: Access


@dataclass(frozen=True, slots=True)
class Domain:
    """A running domain. ``label`` is a name in OLD, ``context`` the hypervisor's text.

    ``uses`` is None where nobody said what it uses.
    """

    domid: int
    vm: str
    label: LabelName | None
    context: str | None = None
    uses: tuple[Use, ...] | None = None

    @property
    def shown(self) -> str:
        """``VM a-db (domain 3)``."""
        return f"VM {printable(self.vm)} (domain {self.domid})"


@dataclass(frozen=True, slots=True)
class Channel:
    """A live channel: domain ``a`` does ``what`` to domain ``b``.

    A mechanism without an operation means all of its operations that OLD
    permits, in both directions.
    """

    a: int
    b: int
    what: Operation | Mechanism


@dataclass(frozen=True, slots=True)
class State:
    """What runs. ``channels`` and ``window_open`` are None where nobody said."""

    domains: tuple[Domain, ...]
    channels: tuple[Channel, ...] | None = None
    window_open: bool | None = None


def read(path: Path) -> State:
    """The state in the file ``path``. Raises BadInput ``state.unreadable`` or ``state.invalid``."""
    try:
        data = read_regular(path, LIMIT)
    except OSError as error:
        raise BadInput(
            "state.unreadable", f"cannot read {path}: {error.strerror or error}",
            "name a file that `shype ps --json` wrote",
        ) from None
    if len(data) > LIMIT:
        _invalid(f"it has more than {LIMIT >> 20} MiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        _invalid(f"it is no JSON ({error})")
    return from_json(value)


def from_json(value: object) -> State:
    """The state that a JSON document says. Raises BadInput ``state.invalid``."""
    top = _object(value, "it", {"domains"}, {"channels", "window", "driver"})
    domains = tuple(
        _domain(item, f"domains[{i}]") for i, item in enumerate(_list(top["domains"], "domains"))
    )
    if len({domain.domid for domain in domains}) != len(domains):
        _invalid("two domains have the same domid")
    channels = top.get("channels")
    window = top.get("window")
    return State(
        domains,
        None if channels is None else tuple(
            _channel(item, f"channels[{i}]", domains)
            for i, item in enumerate(_list(channels, "channels"))
        ),
        None if window is None else _window(window),
    )


def _domain(value: object, where: str) -> Domain:
    found = _object(
        value, where, {"domid", "vm"}, {"label", "context", "resources", *_IGNORED},
    )
    label, context, uses = (found.get(key) for key in ("label", "context", "resources"))
    if label is None and context is None:
        _invalid(f"{where} has neither a label nor a context")
    return Domain(
        _number(found["domid"], f"{where}.domid"), _text(found["vm"], f"{where}.vm"),
        None if label is None else LabelName(_text(label, f"{where}.label")),
        None if context is None else _text(context, f"{where}.context"),
        None if uses is None else tuple(
            _use(item, f"{where}.resources[{i}]")
            for i, item in enumerate(_list(uses, f"{where}.resources"))
        ),
    )


def _use(value: object, where: str) -> Use:
    found = _object(value, where, {"kind", "name"}, {"access"})
    kind = _text(found["kind"], f"{where}.kind")
    access = _text(found.get("access", Access.READ_WRITE), f"{where}.access")
    if kind not in {*ResourceKind}:
        _invalid(f"{where}.kind is not one of {', '.join(ResourceKind)}")
    if access not in {*Access}:
        _invalid(f"{where}.access is not one of {', '.join(Access)}")
    return Use(ResourceKind(kind), _text(found["name"], f"{where}.name"), Access(access))


def _channel(value: object, where: str, domains: tuple[Domain, ...]) -> Channel:
    found = _object(value, where, {"a", "b"}, {"operation", "mechanism"})
    given = [found[key] for key in ("operation", "mechanism") if key in found]
    if len(given) != 1:
        _invalid(f"{where} has not exactly one of operation and mechanism")
    word = _text(given[0], f"{where}.operation")
    what: Operation | Mechanism
    if "operation" in found:
        names = [op for op in Operation if op.flow is not Flow.POWER]
        if word not in names:
            _invalid(f"{where}.operation is not one of {', '.join(names)}")
        what = Operation(word)
    else:
        if word not in SWITCHABLE:
            _invalid(f"{where}.mechanism is not one of {', '.join(sorted(SWITCHABLE))}")
        what = Mechanism(word)
    a, b = (_end(found[key], f"{where}.{key}", domains) for key in ("a", "b"))
    if a == b:
        _invalid(f"{where} leads from a domain to itself")
    return Channel(a, b, what)


def _end(value: object, where: str, domains: tuple[Domain, ...]) -> int:
    """A domain by id or name; dom0 (0) need not be listed."""
    if type(value) is int:
        if value != 0 and all(domain.domid != value for domain in domains):
            _invalid(f"{where}: no domain has the domid {value}")
        return value
    name = _text(value, where)
    found = [domain.domid for domain in domains if domain.vm == name]
    if len(found) != 1:
        _invalid(f"{where}: {len(found) or 'no'} domains are named {printable(name)[:60]!r}")
    return found[0]


def _window(value: object) -> bool:
    found = _object(value, "window", {"open"}, {"label"})
    if not isinstance(found["open"], bool):
        _invalid("window.open is not true or false")
    return found["open"]


def _object(
    value: object, where: str, needed: set[str], allowed: set[str]
) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _invalid(f"{where} is not an object")
    missing, strange = needed - value.keys(), value.keys() - needed - allowed
    if missing:
        _invalid(f"{where} has no {' and no '.join(sorted(missing))}")
    if strange:
        shown = printable(min(strange))[:60]
        _invalid(f"{where} has the key {shown!r}, which means nothing here")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        _invalid(f"{where} is not a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        _invalid(f"{where} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _invalid(f"{where} is not valid Unicode")
    return value


def _number(value: object, where: str) -> int:
    if type(value) is not int or value < 0:
        _invalid(f"{where} is not a whole number from 0")
    return value


def _invalid(reason: str) -> NoReturn:
    raise BadInput(
        "state.invalid", f"this is no state of a host: {reason}",
        "write it with `shype ps --json`; docs/reference/plan-state.md has the format",
    )
