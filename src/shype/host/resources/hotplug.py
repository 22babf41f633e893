"""A veto in the hotplug scripts, for those who attach with xl or another toolstack.

libxl runs a script for every disk that the kernel serves and for every interface, before the
backend has anything: refused there, the guest never sees it.  It runs none for what QEMU serves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.census import residents
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import Backend, Hypervisor
from shype.host.network import mediation
from shype.host.resources import leftover
from shype.host.resources.backend import interface
from shype.host.resources.device import Device, Disk, Nic
from shype.host.resources.grant import grant

#: Actions after which a backend may give a guest something; the others only take away.
GIVING = ("add", "online")
_PATH = re.compile(r"(?:/local/domain/0/)?backend/(vbd|vif)/([0-9]+)/([0-9]+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script is to do: go on, or end with an error and ``why``."""

    permitted: bool
    why: str = ""
    decision: Decision | None = None


def ask(agent: Agent, path: str, action: str) -> Answer:
    """May the backend at the XenStore ``path`` (the script's XENBUS_PATH) begin?

    Any doubt is a no, and then nothing of the device stays.
    """
    if action not in GIVING:
        return Answer(True)
    backend = _backend(agent.hypervisor, path)
    try:
        require_enforcing(agent)
        decision = _decide(agent, backend)
    except ShypeError as error:
        leftover.remove(agent.hypervisor, backend)
        return Answer(False, str(error))
    if not decision.permitted:
        leftover.remove(agent.hypervisor, backend)
        return Answer(False, f"{decision.sentence} [{decision.id}]", decision)
    return Answer(True, decision=decision)


def abandon(hypervisor: Hypervisor, path: str) -> None:
    """Nobody can decide about the backend at ``path``: nothing of its device stays."""
    leftover.remove(hypervisor, _backend(hypervisor, path))


def up(agent: Agent, path: str) -> Answer:
    """The interface at ``path`` is on its bridge: let through what the policy permits.

    If nothing may pass there, nothing of the interface stays.
    """
    backend = _backend(agent.hypervisor, path)
    try:
        mediation.port_up(agent, interface(backend))
    except ShypeError as error:
        leftover.remove(agent.hypervisor, backend)
        return Answer(False, str(error))
    return Answer(True)


def _decide(agent: Agent, backend: Backend) -> Decision:
    resident = next((r for r in residents(agent) if r.domain.domid == backend.domid), None)
    if resident is None or resident.label is None:
        raise Unavailable(
            "vm.no-label", f"domain {backend.domid} carries no label of the policy",
            "nothing is decided for it; stop it")
    granted = grant(
        agent, resident.domain.name, resident.label, (_device(backend),),
        domid=backend.domid, paths_matter=True)
    return granted.refusal or granted.judged[0].decision


def _device(backend: Backend) -> Device:
    values = backend.values
    script = values.get("script", "").rpartition("/")[2]
    if backend.kind == "vif":
        own = None if script in ("vif-bridge", "shype-vif") else script or "(none)"
        return Nic(values.get("bridge", ""), int(backend.number), own)
    own = None if script in ("block", "shype-block") else script or "(none)"
    write = values.get("mode", "w").startswith(("w", "!"))
    return Disk(values.get("params", ""), values.get("dev", backend.number), "raw", write,
                values.get("device-type") == "cdrom", own)


def _backend(hypervisor: Hypervisor, path: str) -> Backend:
    match = _PATH.fullmatch(path)
    wanted = (match[1], int(match[2]), match[3]) if match else None
    for backend in hypervisor.backends():
        if (backend.kind, backend.domid, backend.number) == wanted:
            return backend
    raise BadInput("hotplug.path", f"{path!r} is no disk or interface that is being attached",
                   "this command is for Xen's hotplug scripts")
