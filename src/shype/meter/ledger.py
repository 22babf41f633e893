"""The ledger: an append-only chain of signed records, and the keys that sign it in turn.

The key changes with every rotation, and the old one is erased: who takes over the host can sign
what comes after, never anew what came before.  The record that changes it is signed by both.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shype.base.canonical import digest
from shype.base.errors import BadInput, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.lock import LaunchLock
from shype.meter import head as heads
from shype.meter.head import Head
from shype.meter.places import Places
from shype.meter.reader import no_ledger
from shype.meter.record import ZERO, encode
from shype.policy.ed25519 import MAX_KEY_FILE, PrivateKey

#: Size at which the current file is closed and compressed, bytes.
FULL = 64 * 1024 * 1024
#: Seconds to wait for another process that appends.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger in ``directory``, which only root may enter."""

    directory: Path

    @property
    def places(self) -> Places:
        """Its files."""
        return Places(self.directory)

    @property
    def exists(self) -> bool:
        """Whether it was begun."""
        return self.places.head.exists()

    def begin(self, about: Mapping[str, Any], *, again: bool = False) -> Path | None:
        """Begin a new one; one that is there is set aside as it is, and where is returned.

        ``about`` says who begins it. Only ``again`` sets one aside that is not damaged: by mistake
        it would cost the figures of what runs. Raises BadInput (``meter.begun``), Unavailable
        (``meter.unwritable``, ``meter.key-exposed``).
        """
        with _explained(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked(), _explained(self.directory):
            if not again and self._can_go_on():
                raise BadInput("meter.begun", f"there is a ledger in {self.directory}, and it can "
                               "be gone on with", "go on with it; --again sets it aside, and "
                               "begins a new one that names its end")
            old = self._set_aside()
            key = PrivateKey.generate()
            write_atomic(self.places.key, key.pem(), 0o600)
            write_atomic(self.places.public, key.public.pem(), 0o644)
            name = os.urandom(16).hex()
            empty = Head(name, 0, ZERO, b"", 1, 0, key.public.raw.hex())
            Writer(self.places, empty, key).append(
                {"kind": "begin", "format": 1, "ledger": name, "key": key.public.raw.hex(),
                 **about, **({"before": old[1]} if old else {})})
            return old[0] if old else None

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """The one who may append now; what a killed one left is finished first.

        Raises BadInput (``meter.no-ledger``), Unavailable: ``meter.broken``,
        ``meter.unwritable``.
        """
        if not self.directory.is_dir():
            raise no_ledger(self.directory)
        with self._locked(), _explained(self.directory):
            head = self._head()
            if head is None:
                raise no_ledger(self.directory)
            writer = Writer(self.places, head, self._key(head))
            writer.finish()
            yield writer

    def head(self) -> Head | None:
        """Where it ends. Raises Unavailable (``meter.broken``)."""
        with _explained(self.directory):
            return self._head()

    def _can_go_on(self) -> bool:
        try:
            head = self._head()
            if head is None:
                return False
            Writer(self.places, head, self._key(head)).finish()
        except Unavailable as error:
            if error.id != "meter.broken":
                raise
            return False
        return True

    def _head(self) -> Head | None:
        try:
            return heads.read(self.places.head)
        except heads.Damaged as error:
            raise broken(str(error)) from error

    def _key(self, head: Head) -> PrivateKey:
        """The key that signs next; it may still lie where a killed writer put it."""
        for path in (self.places.key, self.places.next_key):
            with contextlib.suppress(FileNotFoundError, BadInput):
                key = _read_key(path)
                if key.public.raw.hex() == head.key:
                    if path == self.places.next_key:
                        _promote(self.places)
                    return key
        raise broken("the key that signs its records is gone")

    def _set_aside(self) -> tuple[Path, dict[str, Any]] | None:
        files = [p for p in self.directory.iterdir() if p.is_file() and p.name != "lock"]
        if not files:
            return None
        about: dict[str, Any] = {}
        with contextlib.suppress(heads.Damaged, OSError):
            last = heads.read(self.places.head)
            if last is not None:
                about = {"ledger": last.ledger, "seq": last.seq, "hash": last.hash}
        number = 1
        while (place := self.directory / f"before-{number}").exists():
            number += 1
        place.mkdir(mode=0o700)
        for path in files:
            if path in (self.places.key, self.places.next_key):
                _erase(path)
            else:
                path.rename(place / path.name)
        return place, about

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with LaunchLock(self.directory, "lock").hold(_PATIENCE):
            yield


@dataclass(slots=True)
class Writer:
    """Appends; made by `Ledger.writer`, which holds the lock."""

    places: Places
    head: Head
    key: PrivateKey

    def append(self, body: Mapping[str, Any], also: PrivateKey | None = None,
               **state: Any) -> Head:
        """Append one record and with it set ``state``, fields of `Head`; both or neither.

        ``also`` signs it, too. Raises OSError, Unavailable (``meter.broken``).
        """
        keys = [self.key] if also is None else [self.key, also]
        seq = self.head.seq + 1
        line = encode(body, seq, self.head.hash, keys)
        if self.head.seq and self.head.offset + len(self.head.line) >= FULL:
            self._close()
        head = replace(
            self.head, seq=seq, hash=digest(line), line=line,
            offset=self.head.offset + len(self.head.line), **state)
        heads.write(self.places.head, head)
        self.head = head
        self.finish()
        return head

    def finish(self) -> None:
        """Make the current file end with the head's record. Raises as `append`."""
        head = self.head
        if not head.line:  # killed when it had just closed a file
            self.places.current.unlink(missing_ok=True)
            return
        self.places.closed(head.first).unlink(missing_ok=True)  # or not quite closed
        handle = os.open(
            self.places.current, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size == head.offset + len(head.line):
                return
            if not head.offset <= size < head.offset + len(head.line):
                raise broken(f"{self.places.current.name} has {size} bytes, and should have "
                             f"{head.offset + len(head.line)}")
            written = os.pwrite(handle, head.line, head.offset)
            if written != len(head.line):
                raise OSError("short write")
            os.fsync(handle)
        finally:
            os.close(handle)

    def rotate_key(self, why: str, more: Mapping[str, Any]) -> None:
        """Sign with a new key from now on, and erase the old one."""
        following = PrivateKey.generate()
        write_atomic(self.places.next_key, following.pem(), 0o600)
        public = following.public.raw.hex()
        self.append({"kind": "key", "why": why, "key": public, **more}, following, key=public)
        _promote(self.places)
        self.key = following

    def _close(self) -> None:
        """Compress the current file; the next record begins a new one."""
        head = self.head
        data = self.places.current.read_bytes()
        if len(data) != head.offset + len(head.line):
            raise broken(f"{self.places.current.name} is not as long as it was written")
        write_atomic(self.places.closed(head.first), gzip.compress(data, 6, mtime=0), 0o600)
        self.head = replace(head, first=head.seq + 1, offset=0, line=b"")
        heads.write(self.places.head, self.head)
        self.places.current.unlink()


def broken(what: str) -> Unavailable:
    """The error for a ledger that cannot be gone on with."""
    return Unavailable(
        "meter.broken", f"the meter's ledger is not as it was left: {what}",
        "`shype meter verify` says what is wrong; `shype meter begin` sets it aside and begins a "
        "new one, which says so")


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "meter.unwritable", f"the ledger in {directory} cannot be used: {error.strerror}",
            "make room or permissions there, and run the command as root") from error


def _read_key(path: Path) -> PrivateKey:
    data = read_regular(path, MAX_KEY_FILE)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Unavailable(
            "meter.key-exposed", f"others may read {path}, and could sign records",
            "chmod 600 it; then `shype meter key revoke` has a new one made")
    return PrivateKey.from_pem(data, str(path))


def _promote(places: Places) -> None:
    _erase(places.key)
    places.next_key.rename(places.key)


def _erase(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(handle, b"\0" * os.fstat(handle).st_size, 0)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        path.unlink()
