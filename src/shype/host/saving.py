"""Save a VM to a file that only root may read, and remember what was saved (`Receipt`).

The guest is paused until the image is on the disk and its receipt too; only then is its domain
destroyed and its wall released.  If anything fails before, the guest goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.hypervisor import Domain
from shype.host.image import dumps, read_head
from shype.host.launch import catch_up
from shype.host.receipt import Receipt, Receipts
from shype.host.stop import find_whole
from shype.policy.names import LabelName

#: Bytes of a head are collected until there are so many, at most.
_HEAD = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Saved:
    """A VM that is now in a file. ``released``: booleans that went off."""

    vm: str
    label: LabelName
    file: Path
    size: int
    released: tuple[str, ...]


def digest() -> hashlib.blake2b:
    """The digest of images."""
    return hashlib.blake2b(digest_size=32)


def save(agent: Agent, vm: str, file: Path, *, lock_timeout: float = 30) -> Saved:
    """Save ``vm`` to the new file ``file``, and end it.

    Raises BadInput (``vm.*``, ``save.exists``), Unavailable (``save.failed``,
    ``vm.over``, ...), `shype.host.stop.Locked`: then the VM goes on.
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        domain, label = find_whole(agent, vm, "vm.save")
        _record(agent, domain, label, Result.PERMITTED, file)
    # The lock is free meanwhile: a suspended guest has not ended, and keeps its place.
    try:
        size, receipt = _write(agent, domain, label, file)
    except BaseException:
        _record(agent, domain, label, Result.FAILED, file)
        raise
    with agent.lock.hold(max(lock_timeout, 300)):
        agent.witness.goes(domain.domid)
        agent.hypervisor.destroy(domain.domid)
        agent.kept.forget(domain.uuid)
        released = catch_up(agent)[0].changed
    _record(agent, domain, label, Result.DONE, file)
    return Saved(receipt.vm, label, file, size, released)


def _write(agent: Agent, domain: Domain, label: LabelName, file: Path) -> tuple[int, Receipt]:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise BadInput("save.exists", f"{file} exists already", "name a new file") from error
    except OSError as error:
        raise _failed(domain, file, error) from error
    try:
        with os.fdopen(handle, "wb", buffering=0) as sink:
            name = Receipts.fresh()
            writer = _Writer(name, sink.write)
            try:
                agent.hypervisor.save(domain.domid, writer.take)
                writer.finish()
                os.fsync(sink.fileno())
                receipt = _receipt(agent, domain, label, writer.digest.hexdigest())
                Receipts(agent.state).put(name, receipt)
            except OSError as error:
                raise _failed(domain, file, error) from error
            return writer.size, receipt
    except BaseException:
        _go_on(agent, domain)
        with contextlib.suppress(OSError):
            if stat.S_ISREG(file.lstat().st_mode):
                file.unlink()
        raise


def _receipt(agent: Agent, domain: Domain, label: LabelName, sum: str) -> Receipt:
    kept = agent.kept.get(domain.uuid)
    if kept is None or kept.domid != domain.domid:
        return Receipt(domain.name, domain.uuid, label, sum, None)
    return Receipt(domain.name, domain.uuid, label, sum, kept.config, dict(kept.actions))


def _go_on(agent: Agent, domain: Domain) -> None:
    """It had been paused when all of it was written; if not, this does nothing."""
    now = next((d for d in agent.hypervisor.domains() if d.domid == domain.domid), None)
    if now is not None and now.paused and not domain.paused:
        agent.hypervisor.unpause(domain.domid)


class _Writer:
    """Gives an image on, with the name of its receipt in its head, and makes its digest."""

    def __init__(self, receipt: str, write: Callable[[memoryview], int | None]) -> None:
        self._receipt = receipt
        self._write = write
        self._head: bytes | None = b""
        self.digest = digest()
        self.size = 0

    def take(self, chunk: bytes) -> None:
        """The next piece. Raises OSError."""
        if self._head is None:
            self._put(chunk)
            return
        self._head += chunk
        whole = self._head
        at = 0

        def read(size: int) -> bytes:
            nonlocal at
            at += size
            return whole[at - size:at]

        try:
            head = read_head(read)
        except BadInput:
            if len(whole) > _HEAD:
                raise
            return  # not all of it is here yet
        self._head = None
        self._put(dumps(head.config, self._receipt))
        self._put(whole[len(head.raw):])

    def finish(self) -> None:
        """There is no more. Raises OSError if there was no head."""
        if self._head is not None:
            raise OSError("the toolstack gave no image")

    def _put(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)
        left = memoryview(chunk)
        while left:
            left = left[self._write(left) or 0:]


def _failed(domain: Domain, file: Path, error: OSError) -> Unavailable:
    return Unavailable(
        "save.failed", f"{domain.name} could not be saved to {file}: {error.strerror or error}",
        "the VM goes on; make room, or name another place")


def _record(
    agent: Agent, domain: Domain, label: LabelName, result: Result, file: Path
) -> None:
    agent.record(Event(
        kind="vm.save", result=result, vm=domain.name, domid=domain.domid, subject=label,
        object=f"file:{file}", deferrable=result is not Result.PERMITTED,
    ))
