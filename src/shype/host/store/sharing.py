"""Directories in XenStore that one VM writes and another reads, made from the policy.

In a locked store no guest can let another one in, so dom0 makes the places: for VMs X and Y,
by domid, where the policy lets Y read what X writes (``xenstore.read``):

- ``/local/domain/X/shype/to-Y``: X writes, Y reads and watches; what X makes below inherits
  that. Neither can pass it on, Y cannot write.
- ``/local/domain/Y/shype/from-X``: the path of the first, so that Y finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.decision.operation import Operation
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import DOM0, Resident
from shype.host.store.store import Acl, Store, StoreError
from shype.policy.names import LabelName

_DOMAINS = "/local/domain"


@dataclass(frozen=True, slots=True)
class Share:
    """What ``writer`` writes for ``reader`` (domids)."""

    writer: int
    reader: int

    @property
    def path(self) -> str:
        """The directory."""
        return f"{_top(self.writer)}/to-{self.reader}"

    @property
    def pointer(self) -> str:
        """The reader's node that names it."""
        return f"{_top(self.reader)}/from-{self.writer}"


@dataclass(frozen=True, slots=True)
class Shared:
    """What was changed."""

    made: tuple[Share, ...]
    removed: tuple[str, ...]


def guests(found: Sequence[Resident]) -> dict[int, Resident]:
    """The VMs that run, by domid; those that end already get nothing."""
    return {r.domain.domid: r for r in found
            if r.domain.domid != DOM0 and not r.domain.dying}


def shares(agent: Agent, found: Mapping[int, Resident]) -> Iterator[Share]:
    """All that the policy permits between ``found``: a VM of no known label shares nothing."""
    labels: dict[int, LabelName] = {
        domid: resident.label for domid, resident in found.items() if resident.label is not None}
    for writer, its in labels.items():
        for reader, other in labels.items():
            if writer != reader and agent.server.permits(other, its, Operation.STORE_READ):
                yield Share(writer, reader)


def reconcile(
    agent: Agent, store: Store, found: Mapping[int, Resident], *, fresh: int | None = None
) -> Shared:
    """Make what is missing, and remove what is not permitted, or is there for nobody any more.

    ``found`` are the `guests`.
    ``fresh`` is a domain that was just created: what is there for its number was another
    domain's, and goes. Raises Unavailable (``host.no-xenstore``, ``store.*``, ``audit.*``).
    """
    wanted = {share.path: share for share in shares(agent, found)}
    pointers = {share.pointer for share in wanted.values()}
    there, removed = set[str](), []
    for path in _present(store):
        known = path in wanted or path in pointers
        if not known or (fresh is not None and _about(path, fresh)):
            agent.record(Event(kind="store.unshare", result=Result.DONE,
                               object=f"xenstore:{path}", deferrable=True))
            store.remove(path)
            removed.append(path)
        else:
            there.add(path)
    made = []
    for share in wanted.values():
        if share.path in there and share.pointer in there and store.acl(share.path) == _acl(share):
            continue
        _make(agent, store, share, found)
        made.append(share)
    return Shared(tuple(made), tuple(removed))


def _make(agent: Agent, store: Store, share: Share, found: Mapping[int, Resident]) -> None:
    reader, writer = found[share.reader], found[share.writer]
    assert reader.label is not None
    assert writer.label is not None
    agent.record(Event(
        kind="store.share", result=Result.PERMITTED, vm=reader.domain.name, domid=share.reader,
        subject=reader.label, object=f"xenstore:{share.path}", object_label=writer.label,
        decision=agent.server.decide(reader.label, writer.label, Operation.STORE_READ),
    ))
    for domid in (share.writer, share.reader):
        store.make(_top(domid))
        store.set_acl(_top(domid), Acl(DOM0, "n", ((domid, "r"),)))
    store.make(share.path)
    store.set_acl(share.path, _acl(share))
    store.write(share.pointer, share.path.encode())
    store.set_acl(share.pointer, Acl(DOM0, "n", ((share.reader, "r"),)))


def _acl(share: Share) -> Acl:
    return Acl(share.writer, "n", ((share.reader, "r"),))


def _top(domid: int) -> str:
    return f"{_DOMAINS}/{domid}/shype"


def _present(store: Store) -> Iterator[str]:
    """What is there of earlier shares."""
    for entry in _children(store, _DOMAINS):
        for name in _children(store, f"{_DOMAINS}/{entry}/shype"):
            yield f"{_DOMAINS}/{entry}/shype/{name}"


def _children(store: Store, path: str) -> tuple[str, ...]:
    try:
        return store.directory(path)
    except StoreError as error:
        if error.errno != "ENOENT":
            raise
        return ()


def _about(path: str, domid: int) -> bool:
    """Whether a share's path or pointer is of domain ``domid`` as its peer."""
    return path.rpartition("-")[2] == str(domid)
