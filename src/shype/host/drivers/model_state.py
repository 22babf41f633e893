"""The state of a modelled host, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from shype.base import canonical
from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.host.drivers.model_store import Contents
from shype.host.hypervisor import ConsoleText, Domain, Ending
from shype.policy.manifest import Bundle, Manifest
from shype.policy.model import Enforcement

#: Lines that the console ring keeps.
RING = 200
#: Xen's class and permission for what one domain tries on another.
PERMISSION = {
    Operation.EVENT_SEND: ("event", "create"), Operation.MAP_READ: ("grant", "map_read"),
    Operation.MAP_WRITE: ("grant", "map_read map_write"), Operation.COPY_FROM: ("grant", "copy"),
    Operation.COPY_TO: ("grant", "copy"), Operation.ARGO_SEND: ("argo", "send"),
    Operation.FOREIGN_MAP: ("mmu", "map_read map_write"), Operation.CONTROL: ("domain", "pause"),
}


@dataclass
class State:
    """Everything that a hypervisor and its toolstack know."""

    target: str
    enforcement: Enforcement
    booleans: dict[str, bool]
    domains: list[Domain]
    next: int = 1
    console: list[str] = field(default_factory=list)
    #: Bytes that the console has printed, those that its ring has dropped included.
    printed: int = 0
    #: by domid (as text): what its configuration tells the toolstack to do when it ends
    actions: dict[str, dict[str, str]] = field(default_factory=dict)
    store: Contents = field(default_factory=Contents)
    #: who maps whose pages (by, of, writable), and whether the hypervisor can tell
    mapped: list[tuple[int, int, bool]] = field(default_factory=list)
    tells: bool = True
    #: by domid (as text): weight and cap
    shares: dict[str, tuple[int, int]] = field(default_factory=dict)


def boot(manifest: Manifest) -> State:
    """A freshly booted, enforcing host with only dom0."""
    names = manifest.booleans
    declared = (names.digest, names.enable, *names.bits, *names.vectors,
                *names.flags, *names.running.values())
    dom0 = Domain(0, "Domain-0", manifest.dom0.context, paused=False, dying=False)
    return State(manifest.target, Enforcement.ENFORCING, dict.fromkeys(declared, False), [dom0])


def reload(
    state: State, old: Manifest, bundle: Bundle, also: Mapping[str, str]
) -> None:
    """Load ``bundle``'s policy: what is converted is converted by name (ss/services.c)."""
    fresh = boot(bundle.manifest)
    state.booleans = {name: state.booleans.get(name, False) for name in fresh.booleans}
    new = bundle.manifest
    types = {entry.type for entry in new.labels.values()}
    types |= {*new.retired.values(), new.dom0.type}
    renamed = dict(also) | {
        old.labels[label.was].type: new.labels[label.name].type
        for label in bundle.policy.guests if label.was is not None and label.was in old.labels
    }
    state.domains = [
        replace(domain, context=_converted(domain.context, types, renamed))
        for domain in state.domains
    ]


def _converted(context: str, types: set[str], renamed: Mapping[str, str]) -> str:
    parts = context.split(":")
    parts[2] = renamed.get(parts[2], parts[2])
    return ":".join(parts) if parts[2] in types else "u:r:unlabeled_t:s0"


def dump(state: State) -> bytes:
    """As the file has it."""
    return canonical.dumps({
        "target": state.target, "enforcement": state.enforcement, "booleans": state.booleans,
        "next": state.next, "console": state.console, "printed": state.printed,
        "actions": state.actions,
        "domains": [asdict(domain) for domain in state.domains],
        "store": state.store.to_json(), "mapped": state.mapped, "tells": state.tells,
        "shares": state.shares,
    })


def load(data: bytes) -> State:
    """From the file. Raises BadInput (``model.corrupt``)."""
    try:
        value = json.loads(data)
        return State(
            value["target"], Enforcement(value["enforcement"]), dict(value["booleans"]),
            [_domain(domain) for domain in value["domains"]], value["next"], value["console"],
            value["printed"], value["actions"], Contents.from_json(value["store"]),
            [(by, of, write) for by, of, write in value["mapped"]], value["tells"],
            {domid: (weight, cap) for domid, (weight, cap) in value["shares"].items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        problem = f"the model's file is damaged: {error}"
        raise BadInput("model.corrupt", problem, "remove it") from error


def log(state: State, line: str) -> None:
    """Print a line on the console; its ring keeps `RING`."""
    state.console = [*state.console, line][-RING:]
    state.printed += len(line.encode()) + 1


def console(state: State, after: int | None) -> ConsoleText:
    """See `shype.host.hypervisor.Hypervisor.console`; nothing but denials is printed."""
    text = "".join(f"{line}\n" for line in state.console).encode()
    first = state.printed - len(text)
    begin = first if after is None or not first <= after <= state.printed else after
    return ConsoleText(begin, text[begin - first:])


def _domain(value: dict[str, Any]) -> Domain:
    ended = value.pop("ended")
    return Domain(**value, ended=None if ended is None else Ending(ended))
