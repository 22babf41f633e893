"""Which configuration vector of a static policy is in force, and the authorised way to another.

The hypervisor has it, as booleans that are all false at boot: then the first vector is in
force.  The agent keeps the last order that it followed, for once each, and so sees whether
somebody else has set them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.decision.decision import Decision
from shype.decision.wording import listed
from shype.host import measured
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0, Resident, residents, value, wall_values
from shype.host.hostcheck import require_enforcing
from shype.host.ids import HostId
from shype.host.journal import boot_id
from shype.host.table import Table
from shype.policy.ed25519 import KeyId
from shype.policy.grammar import is_name
from shype.policy.manifest import index_of, spelled
from shype.policy.names import VectorName
from shype.policy.vector_order import Order

#: Far more than the record takes, bytes.
MAX_RECORD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Followed:
    """The last order of a policy that this host followed, in the boot ``boot`` of dom0."""

    serial: int
    vector: VectorName
    boot: str


@dataclass(frozen=True, slots=True)
class Switch:
    """How an order ended: ``refusal`` is None if ``after`` is in force now."""

    before: VectorName
    after: VectorName
    refusal: Decision | None = None


def bits(agent: Agent) -> dict[str, bool]:
    """The booleans that say it, as the hypervisor has them; none if there are no vectors.

    Every commit sets them again: a killed command may have left other values pending.
    """
    return {name: value(agent, name) for name in agent.manifest.booleans.vectors}


def in_force(agent: Agent) -> VectorName | None:
    """The vector in force, or None if the policy has none.

    Raises Unavailable: ``vector.unordered`` if nobody who may has ordered it,
    ``vector.corrupt``, ``host.wrong-policy``.
    """
    if not agent.policy.vectors:
        return None
    now, wanted = _set(agent), ordered(agent)
    if now != wanted:
        raise Unavailable(
            "vector.unordered",
            f"the hypervisor has {'the vector ' + now if now else 'no vector of the policy'} in "
            f"force, and {wanted} has been ordered: somebody has set the policy's booleans behind "
            "shype's back",
            "find out who; then boot the host, or give a new order (shype vector switch)",
        )
    return now


def ordered(agent: Agent) -> VectorName:
    """The vector of the last order in this boot, or the policy's first."""
    first = next(iter(agent.policy.vectors))
    last = followed(agent.state).read().get(agent.policy.name)
    if last is None or last.boot != boot_id() or last.vector not in agent.policy.vectors:
        return first
    return last.vector


def switch(
    agent: Agent, order: Order, keys: Sequence[KeyId], *, hostname: str | None = None
) -> Switch:
    """Put the vector of ``order`` into force, unless VMs run that may not run in it.

    Hold the launch lock, after `catch_up`. The order is used up when the hypervisor is about to
    be told, not before.

    Raises BadInput: ``vector.none``, ``order.*``; Unavailable.
    """
    require_enforcing(agent)
    _require_valid(agent, order, hostname or socket.gethostname())
    before = _set(agent) or ordered(agent)
    found = residents(agent)
    refusal = _residents(agent, order.vector, found)
    agent.record(Event(
        kind="vector.switch", result=Result.REFUSED if refusal else Result.DONE,
        object=f"vector:{order.vector}", decision=refusal, deferrable=refusal is not None,
        details={"before": before, "serial": order.serial, "until": order.until,
                 "keys": list(keys)}))
    if refusal is not None:
        return Switch(before, order.vector, refusal)
    table = followed(agent.state)
    with table.locked():
        rows = table.read()
        table.write({**rows, agent.policy.name: Followed(order.serial, order.vector, boot_id())})
    measured.vector(agent, order.vector)
    vector = spelled(agent.manifest.booleans.vectors, [*agent.policy.vectors].index(order.vector))
    agent.hypervisor.set_booleans(
        agent.manifest.window_values(None) | wall_values(agent, found) | vector)
    return Switch(before, order.vector)


def followed(state: Path) -> Table[Followed]:
    """The file ``vector.json`` in the state directory: policy name -> `Followed`.

    Reading it raises Unavailable (``vector.corrupt``) if it is damaged.
    """
    return Table(state / "vector.json", "policies", _followed, MAX_RECORD, _corrupt)


def _set(agent: Agent) -> VectorName | None:
    """The vector that the hypervisor's booleans spell, if they spell one."""
    names = [*agent.policy.vectors]
    index = index_of(bits(agent).values())
    return names[index] if index < len(names) else None


def _require_valid(agent: Agent, order: Order, hostname: str) -> None:
    policy = agent.policy
    if not policy.vectors:
        raise BadInput(
            "vector.none", f"the policy {policy.name} {policy.version} has no vectors",
            "nothing can be switched; a static policy names them under `vectors`",
        )
    if (order.policy, order.version) != (policy.name, policy.version):
        raise BadInput(
            "order.other-policy",
            f"the order is for {order.policy} {order.version}, and this host has {policy.name} "
            f"{policy.version}",
            "give one for the policy of this host",
        )
    if order.vector not in policy.vectors:
        raise BadInput(
            "order.vector", f"the policy has no vector {order.vector}",
            f"it has {listed([*policy.vectors])}",
        )
    if order.hosts and hostname not in order.hosts:
        raise BadInput(
            "order.other-host",
            f"the order is for {listed(order.hosts)}, and this host is {hostname}",
            "give one for this host",
        )
    if order.expires <= time.time():
        raise BadInput(
            "order.expired", f"the order was good until {order.until}",
            "give a new one, or look at this host's clock",
        )
    last = followed(agent.state).read().get(policy.name)
    if last is not None and order.serial <= last.serial:
        raise BadInput(
            "order.used",
            f"the order is not newer than the last that this host followed (to {last.vector})",
            "give a new one: each is good for once",
        )


def _residents(
    agent: Agent, vector: VectorName, found: Sequence[Resident]
) -> Decision | None:
    """The refusal, if VMs run whose labels ``vector`` does not have."""
    entry = agent.policy.vectors[vector]
    strange = [r for r in found if r.domain.domid != DOM0 and r.label not in entry.labels]
    if not strange:
        return None
    each = [f"{r.domain.name} (domain {r.domain.domid}, {r.label or 'unknown'})" for r in strange]
    return Decision(
        False, HostId.VECTOR_RESIDENTS,
        f"the vector {vector} cannot be put into force while {listed(each)} "
        f"{'runs' if len(each) == 1 else 'run'}: it does not have "
        f"{'that label' if len(each) == 1 else 'these labels'}. Stop them first (shype stop).",
        (entry.span,),
    )


def _followed(name: str, item: object) -> Followed:
    if not is_name(name):
        raise ValueError("name")
    if not isinstance(item, dict) or set(item) != {"serial", "vector", "boot"}:
        raise TypeError("entry")
    serial, vector, boot = item["serial"], item["vector"], item["boot"]
    if type(serial) is not int or not isinstance(boot, str):
        raise TypeError("serial")
    if not isinstance(vector, str) or not is_name(vector):
        raise ValueError("vector")
    return Followed(serial, VectorName(vector), boot)


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "vector.corrupt", f"the record of the orders that this host followed, {path}, is damaged",
        "restore it from a backup; without it, orders that were followed already would be "
        "followed again: remove it only when all of them have expired",
    )
