"""Access lists in XenStore that let one VM read what another writes, against the policy.

In a locked store only dom0 makes them: a toolstack, or somebody at its prompt. They are found
by looking at every node, and taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import Resident, residents
from shype.host.store.lockdown import require_locked
from shype.host.store.sharing import Shared, guests, reconcile
from shype.host.store.store import Acl, Store, StoreError
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Opening:
    """A node by which ``reader`` may read what ``writer`` writes, and the policy denies it.

    ``decision`` is None if one of them has no label of the policy.
    """

    path: str
    acl: Acl
    writer: Resident
    reader: Resident
    decision: Decision | None

    @property
    def sentence(self) -> str:
        """What it is."""
        w, r = self.writer.domain, self.reader.domain
        return (f"{r.name} (domain {r.domid}) may read what {w.name} (domain {w.domid}) writes to "
                f"{self.path} ({self.acl})")

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype store check --json``."""
        return {
            "path": self.path, "acl": list(self.acl.words),
            "writer": {"domid": self.writer.domain.domid, "vm": self.writer.domain.name,
                       "label": self.writer.label},
            "reader": {"domid": self.reader.domain.domid, "vm": self.reader.domain.name,
                       "label": self.reader.label},
            "decision": self.decision.to_json() if self.decision else None,
        }


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was found and closed, and what was shared or withdrawn."""

    openings: tuple[Opening, ...]
    shared: Shared


def pairs(acl: Acl, running: frozenset[int]) -> Iterator[tuple[int, int]]:
    """The (writer, reader) pairs of different VMs out of ``running`` that ``acl`` connects."""
    writers = running if acl.others in "wb" else acl.writers & running
    readers = running if acl.others in "rb" else acl.readers & running
    for writer in sorted(writers):
        for reader in sorted(readers):
            if writer != reader and not _shut_out(acl, writer, "wb") and not _shut_out(
                    acl, reader, "rb"):
                yield writer, reader


def _shut_out(acl: Acl, domid: int, rights: str) -> bool:
    """Whether an entry of its own takes from ``domid`` what everybody else has."""
    own = [right for number, right in acl.entries if number == domid]
    return domid != acl.owner and bool(own) and own[0] not in rights


def openings(
    agent: Agent, found: Mapping[int, Resident], acls: Mapping[str, Acl]
) -> tuple[Opening, ...]:
    """All that the lists ``acls`` open against the policy, between the guests ``found``."""
    running = frozenset(found)
    return tuple(
        Opening(path, acl, found[writer], found[reader], decision)
        for path, acl in acls.items()
        for writer, reader in pairs(acl, running)
        for permitted, decision in (_judged(agent, found[writer].label, found[reader].label),)
        if not permitted
    )


def _judged(
    agent: Agent, writer: LabelName | None, reader: LabelName | None
) -> tuple[bool, Decision | None]:
    if writer is None or reader is None:
        return False, None
    server = agent.server
    decision = server.decide(reader, writer, Operation.STORE_READ)
    if decision.permitted:
        return True, decision
    # A device's two ends read each other's nodes; a driver domain serves whose pages it may map.
    for driver, guest in ((writer, reader), (reader, writer)):
        if driver in agent.policy.host.drivers and server.permits(
                driver, guest, Operation.MAP_WRITE):
            return True, decision
    return False, decision


def closed(acl: Acl, bad: frozenset[int]) -> Acl:
    """``acl`` without the domains ``bad`` and without rights of everybody; the owner stays."""
    return Acl(acl.owner, "n", tuple(entry for entry in acl.entries if entry[0] not in bad))


def check(agent: Agent) -> tuple[Opening, ...]:
    """Look at every node and change nothing. Raises Unavailable (``host.no-xenstore``...)."""
    with agent.hypervisor.store() as store:
        acls = store.acls()
        return openings(agent, guests(residents(agent)), acls)


def repair(agent: Agent, *, lock_timeout: float = 30) -> Repaired:
    """Close what is open against the policy, and make the directories of the policy right."""
    with agent.lock.hold(lock_timeout), agent.hypervisor.store() as store:
        return settle(agent, store)


def settle(
    agent: Agent, store: Store, found: Sequence[Resident] | None = None, *,
    fresh: int | None = None,
) -> Repaired:
    """As `repair`, with the launch lock held; ``fresh`` as in `reconcile`.

    ``found``: who runs, if the caller has just looked.
    """
    live = guests(residents(agent) if found is None else found)
    shared = reconcile(agent, store, live, fresh=fresh)
    opened = openings(agent, live, store.acls())
    for path in dict.fromkeys(opening.path for opening in opened):
        here = [opening for opening in opened if opening.path == path]
        _close(agent, store, here)
    return Repaired(opened, shared)


def _close(agent: Agent, store: Store, found: list[Opening]) -> None:
    first = found[0]
    bad = frozenset(
        end.domain.domid for o in found for end in (o.writer, o.reader)) - {first.acl.owner}
    new = closed(first.acl, bad)
    try:
        store.set_acl(first.path, new)
    except StoreError as error:
        if error.errno != "ENOENT":  # its owner may have removed it meanwhile
            raise
    for opening in found:
        agent.record(Event(
            kind="store.repair", result=Result.DONE, vm=opening.reader.domain.name,
            domid=opening.reader.domain.domid, subject=opening.reader.label,
            object=f"xenstore:{opening.path}", object_label=opening.writer.label,
            decision=opening.decision, message=opening.sentence,
            details={"before": list(first.acl.words), "after": list(new.words)}, deferrable=True,
        ))


def admit(
    agent: Agent, found: Sequence[Resident] | None = None, *, fresh: int | None = None
) -> None:
    """Before a domain (``fresh``: a new one) gets anything: the store is locked, and in order.

    ``found`` as in `settle`. Raises Unavailable: then it must not get it, or not run.
    """
    with agent.hypervisor.store() as store:
        require_locked(store)
        settle(agent, store, found, fresh=fresh)


def leave(agent: Agent) -> None:
    """After a domain is gone: its directories go too, unless the store does not answer."""
    try:
        with agent.hypervisor.store() as store:
            reconcile(agent, store, guests(residents(agent)))
    except Unavailable as error:
        agent.record(Event(kind="store.unshare", result=Result.FAILED, error=error.id,
                           message=error.message, deferrable=True))
