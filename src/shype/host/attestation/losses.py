"""What becomes of attested VMs that run when their host is not trusted any more: the policy's
choice, and back to normal by itself once it is trusted again.

Work that a verifier was told of (``maintenance``) and an update of the policy that it has not
yet seen take nothing from VMs that run; they only keep others from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shype.base.errors import ShypeError, Unavailable
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.attest_result import Reason, Verdict
from shype.host.attestation import gate, standing
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0, Resident, residents
from shype.host.hypervisor import Domain
from shype.host.journal import boot_id
from shype.host.migration import migrate
from shype.host.revoked import require_not
from shype.host.table import Table, plain
from shype.policy.model import Lost
from shype.policy.names import LabelName

_MAX_RECORD = 1024 * 1024


class Did(StrEnum):
    """What was done about a VM."""

    KEPT = "kept"
    PAUSED = "paused"
    EVACUATED = "evacuated"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class Loss:
    """What was done about ``vm`` because of ``decision``, which says why; ``host``: where to.

    None for ``decision``: the host is trusted again.
    """

    vm: str
    domid: int
    did: Did
    decision: Decision | None
    host: str | None = None

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype watch --json``."""
        return {"vm": self.vm, "domid": self.domid, "did": str(self.did), "host": self.host,
                "decision": self.decision and self.decision.to_json()}


@dataclass(frozen=True, slots=True)
class Row:
    """What was done about a domain in a boot."""

    domid: int
    boot: str
    did: str


@dataclass(frozen=True, slots=True)
class _Affected:
    domain: Domain
    label: LabelName


Move = Callable[[Agent, str, str], bool]


def lost(agent: Agent) -> Reason | None:
    """Why the host has lost the trust that VMs which run rest on; None if it has not.

    Raises Unavailable (``attestation.corrupt``).
    """
    shown, found = standing.judged(agent)
    if found is None or found.id == "result.other-policy":
        return None
    if found.id == "result.not-trusted" and shown is not None and (
            shown.result.verdict is Verdict.MAINTENANCE):
        return None
    return found


def follow(agent: Agent, *, move: Move | None = None, lock_timeout: float = 5) -> Iterator[Loss]:
    """Do what the policy says, and undo what was done once the host is trusted again.

    ``move`` migrates a VM to a host and says whether it went; by `shype.host.migration.migrate`
    unless given.  Raises Unavailable (``attestation.corrupt``, ``losses.corrupt``, ``lock.busy``).
    """
    section = agent.policy.attestation
    if section is None:
        return
    evacuate: list[_Affected] = []
    why = lost(agent)
    with agent.lock.hold(lock_timeout):
        found = [*_attested(agent, residents(agent))]
        known = _known(agent)
        for one in found:
            did = known.get(one.domain.uuid)
            if why is None and did is not None:
                yield from _back(agent, one, did)
            elif why is not None and did is None:
                if section.lost is Lost.EVACUATE:
                    evacuate.append(one)
                else:
                    yield _hold(agent, one, section.lost, why)
        _forget(agent, [] if why is None else [one.domain.uuid for one in found])
    for one in evacuate:  # the lock is free meanwhile: a migration takes its time
        assert why is not None
        yield _evacuate(agent, one, section.refuges, why, move or _migrate, lock_timeout)


def _attested(agent: Agent, found: Sequence[Resident]) -> Iterator[_Affected]:
    for resident in found:
        domain, label = resident.domain, resident.label
        if domain.domid == DOM0 or label is None or domain.dying or domain.ended is not None:
            continue
        if label in agent.policy.labels and agent.policy.labels[label].attested:
            yield _Affected(domain, label)


def _hold(agent: Agent, one: _Affected, what: Lost, why: Reason) -> Loss:
    decision = gate.denied(agent, one.label, "go on", why)
    did = Did.KEPT if what is Lost.KEEP else Did.PAUSED
    _record(agent, one, did, decision)
    if did is Did.PAUSED:
        agent.hypervisor.pause(one.domain.domid)
    _remember(agent, one, did)
    return Loss(one.domain.name, one.domain.domid, did, decision)


def _evacuate(
    agent: Agent, one: _Affected, refuges: Sequence[str], why: Reason, move: Move,
    lock_timeout: float,
) -> Loss:
    for host in refuges:
        try:
            if move(agent, one.domain.name, host):
                decision = gate.denied(agent, one.label, "go on", why)
                _record(agent, one, Did.EVACUATED, decision, host)
                return Loss(one.domain.name, one.domain.domid, Did.EVACUATED, decision, host)
        except ShypeError:
            continue  # the migration is on record; the next refuge may take it
    with agent.lock.hold(lock_timeout):
        return _hold(agent, one, Lost.PAUSE, why)


def _migrate(agent: Agent, vm: str, host: str) -> bool:
    return migrate(agent, vm, host, leaving=True).refusal is None


def _back(agent: Agent, one: _Affected, did: str) -> Iterator[Loss]:
    if did != Did.PAUSED:
        return
    require_not(agent.state, one.domain)
    _record(agent, one, Did.RESUMED, None)
    agent.hypervisor.unpause(one.domain.domid)
    yield Loss(one.domain.name, one.domain.domid, Did.RESUMED, None)


def _record(
    agent: Agent, one: _Affected, did: Did, decision: Decision | None, host: str | None = None
) -> None:
    agent.record(Event(
        kind="attestation.lost" if decision is not None else "attestation.regained",
        result=Result.DONE, vm=one.domain.name, domid=one.domain.domid, subject=one.label,
        object=None if host is None else f"host:{host}", decision=decision,
        details={"did": str(did)}, deferrable=decision is not None))


# -- what was done about whom --------------------------------------------------------------------


def _table(agent: Agent) -> Table[Row]:
    return Table(standing.directory(agent.state) / "losses.json", "vms", plain(Row), _MAX_RECORD,
                 _corrupt)


def _known(agent: Agent) -> dict[str, str]:
    """UUID -> what was done, of domains of this boot that are still there."""
    boot = boot_id()
    there = {(d.uuid, d.domid) for d in agent.hypervisor.domains()}
    return {uuid: row.did for uuid, row in _table(agent).read().items()
            if row.boot == boot and (uuid, row.domid) in there}


def _remember(agent: Agent, one: _Affected, did: Did) -> None:
    standing.make(agent.state)
    table = _table(agent)
    with table.locked():
        table.write({**table.read(),
                     one.domain.uuid: Row(one.domain.domid, boot_id(), str(did))})


def _forget(agent: Agent, but: Sequence[str]) -> None:
    table = _table(agent)
    if not table.path.exists():
        return
    with table.locked():
        rows = table.read()
        left = {uuid: row for uuid, row in rows.items() if uuid in but}
        if left != rows:
            table.write(left)


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "losses.corrupt", f"the record of VMs that lost their host's trust, {path}, is damaged",
        "remove it; shype unpause lets a VM that was paused go on once the host is trusted")
