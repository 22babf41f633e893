"""The state of a modelled host, and the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from shype.base import canonical
from shype.base.errors import BadInput
from shype.host.drivers.model_store import Contents
from shype.host.hypervisor import Domain, Ending
from shype.policy.manifest import Manifest
from shype.policy.model import Enforcement


@dataclass
class State:
    """Everything that a hypervisor and its toolstack know."""

    target: str
    enforcement: Enforcement
    booleans: dict[str, bool]
    domains: list[Domain]
    next: int = 1
    console: list[str] = field(default_factory=list)
    #: by domid (as text): what its configuration tells the toolstack to do when it ends
    actions: dict[str, dict[str, str]] = field(default_factory=dict)
    store: Contents = field(default_factory=Contents)


def boot(manifest: Manifest) -> State:
    """A freshly booted, enforcing host with only dom0."""
    names = manifest.booleans
    declared = (names.digest, names.enable, *names.bits, *names.running.values())
    dom0 = Domain(0, "Domain-0", manifest.dom0.context, paused=False, dying=False)
    return State(manifest.target, Enforcement.ENFORCING, dict.fromkeys(declared, False), [dom0])


def dump(state: State) -> bytes:
    """As the file has it."""
    return canonical.dumps({
        "target": state.target, "enforcement": state.enforcement, "booleans": state.booleans,
        "next": state.next, "console": state.console, "actions": state.actions,
        "domains": [asdict(domain) for domain in state.domains],
        "store": state.store.to_json(),
    })


def load(data: bytes) -> State:
    """From the file. Raises BadInput (``model.corrupt``)."""
    try:
        value = json.loads(data)
        return State(
            value["target"], Enforcement(value["enforcement"]), dict(value["booleans"]),
            [_domain(domain) for domain in value["domains"]], value["next"], value["console"],
            value["actions"], Contents.from_json(value["store"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        problem = f"the model's file is damaged: {error}"
        raise BadInput("model.corrupt", problem, "remove it") from error


def _domain(value: dict[str, Any]) -> Domain:
    ended = value.pop("ended")
    return Domain(**value, ended=None if ended is None else Ending(ended))
