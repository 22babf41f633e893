"""Where audit records are kept: an append-only chain of sealed lines.

`Trail.record` is the way in for everybody.  What must not happen unrecorded asks first, and is
refused if the trail takes nothing; what only takes away, or has happened already
(`Event.deferrable`), is never held up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shype.base.errors import ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.host.audit import head as heads
from shype.host.audit.event import Event, Result
from shype.host.audit.head import Head
from shype.host.audit.places import Places
from shype.host.audit.stamp import stamped
from shype.host.audit.writer import Broken, Writer, check_anchor, opened

#: Seconds to wait for another process that appends; it needs milliseconds.
_PATIENCE = 10.0
_POLL = 0.005


@dataclass(frozen=True, slots=True)
class Trail:
    """The audit trail in ``directory``, which only root may enter."""

    directory: Path

    @property
    def places(self) -> Places:
        """Its files."""
        return Places(self.directory)

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self.places.current

    def record(self, event: Event) -> None:
        """Append ``event``; it is on the disk when this returns.

        Raises Unavailable (``audit.unwritable``, ``audit.broken``) unless the event is
        deferrable: what is not recorded must not happen.
        """
        body = stamped(event)
        try:
            with self.writer() as writer:
                writer.append(body, deferrable=event.deferrable)
        except ShypeError:
            if not event.deferrable:
                raise
            self._aside(body)

    def rotate(self) -> str | None:
        """Close the current file; its new name, or None if it is empty.

        Raises Unavailable (``audit.unwritable``, ``audit.broken``).
        """
        with self.writer() as writer:
            if writer.full is not None:
                raise writer.full
            return writer.rotate()

    def head(self) -> Head | None:
        """Where the chain ends; None before the first record.

        Raises Unavailable (``audit.broken``, ``audit.unwritable``).
        """
        with self._explained():
            try:
                found = heads.read(self.places.head)
            except heads.Damaged as error:
                raise Broken(f"{self.places.head.name} is damaged") from error
            check_anchor(self.places, found)
            return found

    def take_key(self) -> bytes:
        """The verification key; the host forgets it.

        Raises Unavailable: ``audit.key-taken`` if it was taken before, and as `record`.
        """
        with self.writer() as writer:
            try:
                key = self.places.key.read_bytes()
            except FileNotFoundError as error:
                raise Unavailable(
                    "audit.key-taken", "the verification key of this trail was taken before",
                    "look where it is kept; if it is lost, `shype audit begin` starts a new "
                    "trail with a key of its own",
                ) from error
            event = Event(kind="audit.key", result=Result.DONE, message="verification key taken")
            writer.append(stamped(event), deferrable=False)
            return key

    def forget_key(self) -> None:
        """Erase the verification key on the host: call it once the key is safe elsewhere."""
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(self.places.key, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.pwrite(handle, b"\0" * 128, 0)
                os.fdatasync(handle)
            finally:
                os.close(handle)
            self.places.key.unlink()

    def copy(self, into: Path, nonce: str = "") -> int:
        """Copy the trail to the new directory ``into``, without any key; the number of files.

        The copy is verified as the trail is, and nobody can go on writing it. With a ``nonce``,
        it proves that this is where the trail ends now.
        Raises Unavailable (``audit.broken``, ``audit.unwritable``), FileExistsError.
        """
        into.mkdir(mode=0o700, parents=True)
        with self._explained():
            copy = Places(into)
            with self._locked():
                try:
                    head = heads.read(self.places.head)
                except heads.Damaged as error:
                    raise Broken(f"{self.places.head.name} is damaged") from error
                # Closed files do not change, and the others not as long as the lock is held.
                files = [path for _, _, path in self.places.closed()]
                files += [path for path in (self.places.current, self.places.unchained)
                          if path.exists()]
                if head is not None and head.reserve:
                    files.append(self.places.reserve)
                for path in files:
                    write_atomic(into / path.name, path.read_bytes(), 0o600)
                if head is not None:
                    write_atomic(copy.head, heads.image(head.public()), 0o600)
                if head is not None and nonce:
                    write_atomic(copy.answer, heads.fresh(head.key, head, nonce).encode(), 0o600)
                with contextlib.suppress(FileNotFoundError):
                    write_atomic(into / "anchors", self.places.loads.read_bytes(), 0o600)
            return len(files)

    def begin(self, reason: str) -> Path | None:
        """Set the trail aside as it is and begin a new one; where the old one is now.

        Raises Unavailable (``audit.unwritable``).
        """
        with self._explained(), self._locked():
            old = self._set_aside()
            details: dict[str, Any] = {}
            if old is not None:
                details["set_aside"] = old.name
                with contextlib.suppress(heads.Damaged, OSError):
                    last = heads.read(old / self.places.head.name)
                    if last is not None:
                        details["before"] = {
                            "trail": last.trail, "seq": last.seq, "hash": last.hash}
            with opened(self.places) as writer:
                _first(writer, reason, details)
            return old

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """The end of the chain, for this process alone; a trail that is not there begins.

        Raises Unavailable as `record`.
        """
        with self._explained(), self._locked(), opened(self.places) as writer:
            if writer.head.seq == 0:
                _first(writer, "", {})
            yield writer

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody appends meanwhile; without a lock file (a copy) nobody does anyway."""
        try:
            handle = os.open(self.places.lock, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            yield
            return
        try:
            _wait(handle, fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.places.lock, flags, 0o600)
        try:
            _wait(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.unwritable(error) from error
        except Broken as error:
            raise Unavailable(
                "audit.broken", f"the audit trail in {self.directory} is not as shype left it: "
                f"{error}",
                "look into it first (shype audit verify); then `shype audit begin` sets it aside "
                "as it is and starts a new one. Until then nothing starts",
            ) from error

    def unwritable(self, error: OSError) -> Unavailable:
        """The error for a trail that takes nothing now."""
        return Unavailable(
            "audit.unwritable",
            f"the audit trail in {self.directory} cannot be written: {error.strerror}",
            "make room for it, or mend its file system; nothing starts without a record",
        )

    def _set_aside(self) -> Path | None:
        left = [path for path in self.directory.iterdir()
                if path.name != self.places.lock.name
                and not path.name.startswith(("old-", "collect"))]
        old = None
        if left:
            number = 1
            while (self.directory / f"old-{number}").exists():
                number += 1
            old = self.directory / f"old-{number}"
            old.mkdir(mode=0o700)
            # The head goes last: until then this is a broken trail, and not the beginning of one.
            for path in sorted(left, key=lambda path: path.name == self.places.head.name):
                path.rename(old / path.name)
        with contextlib.suppress(FileNotFoundError):
            self.places.anchor.rename((old or self.directory) / self.places.anchor.name)
        with contextlib.suppress(FileNotFoundError):
            self.places.loads.rename((old or self.directory) / "anchors")
        return old

    def _aside(self, body: dict[str, Any]) -> None:
        """Keep what the chain does not take, unchained; a last resort, which never raises."""
        line = json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        with contextlib.suppress(OSError):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(
                self.places.unchained,
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)


def _first(writer: Writer, reason: str, details: dict[str, Any]) -> None:
    event = Event(kind="audit.begin", result=Result.DONE, message=reason,
                  details={**details, "trail": writer.head.trail})
    writer.append(stamped(event), deferrable=False)


def _wait(handle: int, how: int) -> None:
    """Take the lock. Raises OSError (ETIMEDOUT) if another process never lets go."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise OSError(errno.ETIMEDOUT, "another process holds its lock") from None
            time.sleep(_POLL)
