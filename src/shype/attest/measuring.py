"""What a host's agent does goes into a register of its TPM, and into a log that explains it.

A register cannot be set back but by a restart of the machine: `shype.attest.host_events.PCR` is
one of those.  The log is the crypto agile one of the TCG (`shype.attest.event_log`), replayed by
the verifier.  An event is extended first and logged then, under a record that says which event it
is and what the register held: whoever finds the record after a crash knows from the register
whether the event was extended, and completes it.  A register that holds neither value, or not
what the log explains, was extended by somebody else: that is told, and never mended.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shype.attest import agent_code, event_log, host_events
from shype.attest.event_log import INITIAL, Event, extended
from shype.attest.host_events import PCR, HostEvent, Kind
from shype.base import canonical
from shype.base.errors import ShypeError, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.journal import boot_id
from shype.host.lock import LaunchLock, unwritable
from shype.policy.manifest import Manifest

#: Names in the directory: the log, of which boot it is, the record of an unfinished event, and
#: what was observed last.
LOG, BOOT, PENDING, SEEN = "event-log", "boot", "pending", "seen"
#: Seconds to wait for another command's event.
PATIENCE = 60.0
_MAX_RECORD = 64 * 1024


class Registers(Protocol):
    """What is needed of a TPM."""

    def pcr_read(self, pcrs: Iterable[int]) -> dict[int, bytes]:
        """Values by register."""

    def pcr_extend(self, pcr: int, digest: bytes) -> None:
        """Extend."""


@contextlib.contextmanager
def _tpm() -> Iterator[Registers]:
    from shype.attest.tpm import Tpm

    with Tpm() as tpm:
        yield tpm


@dataclass(frozen=True, slots=True)
class TpmMeasurer:
    """Measures into the TPM; ``directory`` is the agent's own, and need not outlive the boot.

    ``tpm`` opens it; ``boot`` is the boot of dom0; ``step`` is told of what is done, for tests.
    Every method raises Unavailable (``tpm.*``, ``event-log.diverged``, ``state.unwritable``,
    ``lock.busy``), BadInput (``event-log.corrupt``).
    """

    directory: Path
    tpm: Callable[[], contextlib.AbstractContextManager[Registers]] = _tpm
    boot: Callable[[], str] = boot_id
    step: Callable[[str], None] = lambda step: None
    active: bool = field(default=True, init=False)

    def observe(self, manifest: Manifest, mode: str) -> None:
        """Measure the agent, the policy and the mode, those that are not the log's last."""
        seen = {"boot": self.boot(), "code": fingerprint(), "policy": manifest.digest,
                "mode": mode}
        if self._seen() == seen and not (self.directory / PENDING).exists():
            return
        with self._open() as log:
            log.unless_last(HostEvent(Kind.AGENT, {"agent": agent_code.digest()}))
            log.unless_last(_policy(manifest))
            log.unless_last(HostEvent(Kind.ENFORCEMENT, {"mode": mode}))
            self._write(SEEN, canonical.dumps(seen), durable=False)

    def load(self, manifest: Manifest) -> None:
        """Measure a policy that is about to be loaded."""
        with self._open() as log:
            (self.directory / SEEN).unlink(missing_ok=True)
            log.append(_policy(manifest))

    def launch(self, label: str, image: str) -> None:
        """Measure a VM that is about to run."""
        with self._open() as log:
            log.append(HostEvent(Kind.LAUNCH, {"label": label, "image": image}))

    def vtpm(self, vm: str, uuid: str, label: str, ek: str) -> None:
        """Measure whose TPM a VM is about to get."""
        with self._open() as log:
            log.append(HostEvent(Kind.TPM, {"vm": vm, "uuid": uuid, "label": label, "ek": ek}))

    def vector(self, name: str) -> None:
        """Measure a vector that is about to be in force."""
        with self._open() as log:
            log.append(HostEvent(Kind.VECTOR, {"vector": name}))

    def log(self) -> bytes:
        """The log of this boot, after an unfinished event was completed."""
        with self._open() as log:
            return log.data

    # -- the directory

    @property
    def path(self) -> Path:
        """The log of this boot."""
        return self.directory / LOG

    def _write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        try:
            write_atomic(self.directory / name, data, 0o600, durable=durable)
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def _seen(self) -> object:
        try:
            return json.loads(read_regular(self.directory / SEEN, _MAX_RECORD))
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def _open(self) -> Iterator[_Log]:
        with LaunchLock(self.directory).hold(PATIENCE), self.tpm() as tpm:
            log = _Log(self, tpm)
            log.begin()
            yield log


@dataclass(slots=True)
class _Log:
    """The log of this boot while its lock is held."""

    of: TpmMeasurer
    tpm: Registers
    data: bytes = b""
    events: tuple[Event, ...] = ()

    def begin(self) -> None:
        """Read it, or begin it; complete an event that was not finished."""
        self._this_boot()
        pending = self._pending()
        try:
            data = read_regular(self.of.path, event_log.MAX_LOG)
        except OSError as error:
            raise unwritable(self.of.directory, error) from error
        self._take(data if pending is None else data[:pending.size])
        value = self.tpm.pcr_read([PCR])[PCR]
        if pending is None:
            self._require(value == self._explained())
            return
        self._require(pending.before == self._explained())
        if value == pending.before:
            self.tpm.pcr_extend(PCR, pending.digest)
        else:
            self._require(value == extended(pending.before, pending.digest))
        self._log(pending)

    def append(self, event: HostEvent) -> None:
        """Measure one event."""
        entry = event_log.encode(host_events.to_event(event))
        pending = _Pending(self.of.boot(), self._explained(), len(self.data), entry)
        self.of._write(PENDING, pending.dumps())
        self.of.step("recorded")
        self.tpm.pcr_extend(PCR, pending.digest)
        self.of.step("extended")
        self._log(pending)

    def unless_last(self, event: HostEvent) -> None:
        """Measure it, unless the last of its kind says the same."""
        found = [one for one in map(host_events.from_event, self.events)
                 if one is not None and one.kind is event.kind]
        if not found or found[-1] != event:
            self.append(event)

    def _this_boot(self) -> None:
        """A new boot has a new log: the registers are empty."""
        try:
            before = read_regular(self.of.directory / BOOT, _MAX_RECORD)
        except FileNotFoundError:
            before = b""
        except OSError as error:
            raise unwritable(self.of.directory, error) from error
        boot = self.of.boot().encode()
        if before != boot or not self.of.path.exists():
            self.of._write(LOG, event_log.header())
            self.of._write(BOOT, boot)

    def _take(self, data: bytes) -> None:
        self.data, self.events = data, event_log.loads(data)

    def _explained(self) -> bytes:
        """What the register must hold if the log has everything."""
        return event_log.replay(self.events).get(PCR, INITIAL[PCR])

    def _log(self, pending: _Pending) -> None:
        """Have the entry in the file, once, whatever was there of it; then it is finished."""
        try:
            handle = os.open(self.of.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.ftruncate(handle, len(self.data))
                os.pwrite(handle, pending.entry, len(self.data))
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise unwritable(self.of.directory, error) from error
        self.of.step("logged")
        self._take(self.data + pending.entry)
        with contextlib.suppress(OSError):  # it is found, and found done
            (self.of.directory / PENDING).unlink()
        self.of.step("finished")

    def _pending(self) -> _Pending | None:
        """The event that was not finished in this boot. Raises Unavailable."""
        path = self.of.directory / PENDING
        try:
            value = json.loads(read_regular(path, _MAX_RECORD))
            found = _Pending(value["boot"], bytes.fromhex(value["before"]), int(value["size"]),
                             bytes.fromhex(value["entry"]))
            event_log.loads(event_log.header() + found.entry)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unwritable(self.of.directory, error) from error
        except (ValueError, KeyError, TypeError, RecursionError, ShypeError) as error:
            raise _diverged(self.of.directory, f"the record {path} is damaged") from error
        # One of another boot never had an effect: that boot's registers are gone.
        return found if found.boot == self.of.boot() else None

    def _require(self, explained: bool) -> None:
        if not explained:
            raise _diverged(self.of.directory, f"PCR {PCR} does not hold what the log explains")


@dataclass(frozen=True, slots=True)
class _Pending:
    """An event on its way: the register and the log's size before, and the entry."""

    boot: str
    before: bytes
    size: int
    entry: bytes

    @property
    def digest(self) -> bytes:
        """What is extended."""
        event, = event_log.loads(event_log.header() + self.entry)
        assert event.sha256 is not None
        return event.sha256

    def dumps(self) -> bytes:
        """As the record has it."""
        return canonical.dumps({"boot": self.boot, "before": self.before.hex(),
                                "size": self.size, "entry": self.entry.hex()})


def fingerprint(package: Path = agent_code.RUNNING) -> str:
    """Changes when a file of the code is replaced or written; no file is read for it."""
    seen: list[str] = []
    left = [str(package)]
    while left:  # pathlib would take four times as long, at each command
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        left.append(entry.path)
                    continue
                about = entry.stat()
                seen.append(f"{entry.path} {about.st_size} {about.st_mtime_ns} "
                            f"{about.st_ctime_ns} {about.st_ino}")
    return canonical.digest("\n".join(sorted(seen)).encode())


def _policy(manifest: Manifest) -> HostEvent:
    return HostEvent(Kind.POLICY, {
        "name": manifest.policy.name, "version": manifest.policy.version,
        "bundle": manifest.digest, "module": manifest.files["policy.bin"]})


def _diverged(directory: Path, why: str) -> Unavailable:
    return Unavailable(
        "event-log.diverged", f"the log in {directory} and the TPM do not agree: {why}",
        "somebody else has extended the register, or changed the log: find out who; after a "
        "reboot both begin anew")
