"""The matrix of this host, kept true to the policy and to what runs.

Nothing is remembered between two commands: the vifs are the kernel's, the labels the
hypervisor's, the verdicts the security server's, and the table is replaced as a whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from shype.base.errors import ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import Resident, residents
from shype.host.journal import boot_id
from shype.host.lock import LaunchLock
from shype.host.network import refused
from shype.host.network.matrix import Matrix, Port, matrix
from shype.host.network.ruleset import ruleset
from shype.policy.model import ResourceKind

#: The rules that were loaded last, in the state directory.
_RULESET = "network.nft"


@dataclass(frozen=True, slots=True)
class Mediated:
    """The matrix in force. ``changed``: another than before was loaded."""

    matrix: Matrix
    changed: bool


@dataclass(frozen=True, slots=True)
class Check:
    """How the bridges stand. ``faults`` is empty iff the kernel filters what the policy says."""

    matrix: Matrix
    faults: tuple[str, ...]


def concerned(agent: Agent) -> bool:
    """Whether bridges are this policy's or this host's matter at all."""
    policy = agent.policy
    return (
        policy.unlabeled_resources is not None
        or any(entry.kind is ResourceKind.NETWORK for entry in policy.resources)
        or bool(agent.hypervisor.switch().vifs())
    )


def wanted(agent: Agent, without: str | None = None) -> Matrix:
    """What the policy says of the vifs that there are (but for the interface ``without``)."""
    return _wanted(agent, without)[0]


def _wanted(agent: Agent, without: str | None) -> tuple[Matrix, tuple[Resident, ...]]:
    switch = agent.hypervisor.switch()
    vifs = tuple(v for v in switch.vifs() if v.name != without)
    found = residents(agent) if vifs else ()
    labels = {r.domain.domid: r.label for r in found}
    return matrix(agent.server, ((vif, labels.get(vif.domid)) for vif in vifs),
                  switch.uplinks()), found


def settle(agent: Agent, without: str | None = None) -> Mediated:
    """Make the bridges filter as the policy says of what is on them now.

    Holds no launch lock, but one of its own, so that a hotplug script may call it while a
    launch waits for that script. Safe to die in: the kernel has the old table or the new one.

    Raises Unavailable: ``network.filter``, ``state.unwritable``, ``audit.unwritable``.
    """
    switch = agent.hypervisor.switch()
    # one change at a time, from looking at the vifs to loading the table
    with LaunchLock(agent.state, "network.lock").wait():
        now, found = _wanted(agent, without)
        text = ruleset(now)
        changed = text != _last(agent)
        if changed:
            agent.record(Event(kind="network.load", result=Result.DONE, details={
                "ports": {p.vif.name: p.label for p in now.ports if p.number is not None},
                "closed": {p.vif.name: p.why for p in now.ports if p.number is None},
                "pairs": len(now.pairs),
                "uplinks": [up.name for up, number in now.uplinks if number],
            }))
        with contextlib.suppress(ShypeError):  # what is refused is refused, counted or not
            refused.take(agent)  # the new table's counters begin anew
        switch.load(text)  # always: who knows what has become of the table
        refused.remember(agent, now, found)
        if changed:
            _remember(agent, text)
        for port in now.ports:
            if port.number is not None:
                switch.fasten(port.vif)
    return Mediated(now, changed)


def port_up(agent: Agent, name: str) -> Port:
    """The interface ``name`` has joined its bridge: let through what the policy permits.

    Raises Unavailable: ``network.port`` if nothing may pass there, and as `settle`.
    """
    done = settle(agent)
    port = next((p for p in done.matrix.ports if p.vif.name == name), None)
    if port is None:
        raise Unavailable("network.port", f"{name} is the interface of no VM in dom0",
                          "does the VM still run, and is its backend in dom0?")
    _insist(agent, port)
    return port


def port_down(agent: Agent, name: str) -> None:
    """The interface ``name`` is going: nothing passes there from now on. Raises as `settle`."""
    settle(agent, without=name)


def domain_up(agent: Agent, domid: int) -> tuple[Port, ...]:
    """Before domain ``domid`` runs: its interfaces are filtered. Raises as `port_up`.

    Returns its ports. Where a host and its policy have nothing to do with networks, nothing
    happens.
    """
    if not concerned(agent):
        return ()
    if all(vif.domid != domid for vif in agent.hypervisor.switch().vifs()):
        tidy(agent)  # of what an earlier domain of this number may have left
        return ()
    ports = tuple(p for p in settle(agent).matrix.ports if p.vif.domid == domid)
    for port in ports:
        _insist(agent, port)
    return ports


def tidy(agent: Agent) -> None:
    """After VMs have gone: forget their ports. A failure is recorded, and `check` finds it.

    It must not keep the agent from closing a window or stopping a VM.
    """
    try:
        if concerned(agent) and ruleset(wanted(agent)) != _last(agent):
            settle(agent)
    except ShypeError as error:
        agent.record(Event(
            kind="network.load", result=Result.FAILED, error=error.id, message=error.message,
            deferrable=True))


def take(agent: Agent) -> refused.Taken:
    """Put on record what the bridges have refused. Raises as `refused.take`."""
    if not concerned(agent):
        return refused.Taken()
    with LaunchLock(agent.state, "network.lock").wait():
        return refused.take(agent)


def faults(agent: Agent) -> tuple[str, ...]:
    """As `check`, in words only: also why it cannot be told. Empty where networks play no part."""
    try:
        return check(agent).faults if concerned(agent) else ()
    except Unavailable as error:
        return (str(error),)


def check(agent: Agent) -> Check:
    """Compare what the kernel filters with what the policy says; changes nothing."""
    switch = agent.hypervisor.switch()
    now = wanted(agent)
    faults = [f"{p.vif.name}: {p.why}" for p in now.ports if p.number is None]
    faults += [f"{up.name}: it is VLAN {up.vlan or 'no'}" for up, number in now.uplinks
               if number is None]
    loaded = switch.listing()
    if loaded is not None:
        faults += _differences(loaded, switch.rendered(ruleset(now)))
    elif now.ports:
        faults.append("no table `bridge shype` is loaded: nothing is filtered")
    open_ = [p.vif for p in now.ports if p.number is not None]
    faults += [f"{name}: {what}" for name, what in switch.loose(open_).items()]
    return Check(now, tuple(faults))


def _differences(loaded: tuple[object, ...], meant: tuple[object, ...]) -> Iterator[str]:
    """What of the loaded table is not as it should be, by name of its set, map or chain."""
    if loaded == meant:
        return
    here, there = _by_name(loaded), _by_name(meant)
    for name in dict.fromkeys([*there, *here]):
        if here.get(name) != there.get(name):
            what = "is missing" if name not in here else (
                "is not shype's" if name not in there else "is not what the policy says")
            yield f"{name} of the table `bridge shype` {what}"


def _by_name(listing: tuple[object, ...]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for item in listing:
        assert isinstance(item, dict)
        for kind, value in item.items():
            name = value.get("chain") or value.get("name")
            key = f"{'chain' if kind == 'rule' else kind} {name}"
            found.setdefault(key, []).append(item)
    return found


def _insist(agent: Agent, port: Port) -> None:
    """Raises Unavailable ``network.port`` for a port that the matrix has to keep closed."""
    if port.number is None:
        agent.record(Event(
            kind="network.attach", result=Result.FAILED, domid=port.vif.domid,
            subject=port.label, object=f"network:{port.vif.bridge}", error="network.port",
            message=port.why, details={"vif": port.vif.name}, deferrable=True))
        raise Unavailable(
            "network.port",
            f"the interface {port.vif.name} of domain {port.vif.domid} stays closed: {port.why}",
            "give it a Linux bridge of dom0 (bridge=) and a MAC of its own (mac=)",
        )


def _last(agent: Agent) -> str | None:
    """What was loaded last since the host booted, as far as is known."""
    try:
        boot, _, text = (agent.state / _RULESET).read_text().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return text if boot == f"# {boot_id()}" else None


def _remember(agent: Agent, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: then it is recorded once more
        write_atomic(agent.state / _RULESET, f"# {boot_id()}\n{text}".encode(), 0o600)
