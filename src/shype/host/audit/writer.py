"""Appends to the chain, and mends what a killed writer left.

Order of one append: the record (durable), then the head (durable). So the file may be ahead of
the head by what a killed writer wrote, which is then either adopted or marked as torn; it is
never behind, unless somebody took something away.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from shype.base.files import write_atomic
from shype.host.audit import head as heads
from shype.host.audit.head import Head
from shype.host.audit.places import Places
from shype.host.audit.record import MAX_LINE, ZERO, Key, Record, decode, encode, following, seal

#: A file that is longer is closed, bytes.
ROTATE_AT = 8 * 1024 * 1024
#: Size of the reserve, bytes: some hundred records.
RESERVE = 256 * 1024


class Broken(Exception):
    """The trail is not as it was left: something was taken away or put in its place."""


class Writer:
    """The end of a trail, held by one process (under the trail's lock)."""

    def __init__(self, places: Places, head: Head, handles: tuple[int, int, int]) -> None:
        self.places = places
        self.head = head
        self._file, self._reserve, self._head = handles
        #: Why the file takes nothing now; then the reserve is used.
        self.full: OSError | None = None

    # -- what is written --------------------------------------------------------------------------

    def append(self, body: dict[str, Any], *, deferrable: bool, before: bytes = b"") -> None:
        """Append a record; it is durable when this returns.

        ``before`` is put in front of it (what ends a torn line).  Without room, what is
        ``deferrable`` goes to the reserve, and if that is full it is counted as lost.

        Raises OSError if the file takes nothing and the record is not deferrable; nothing is
        then left of it.
        """
        head = self.head
        line, digest = encode(body, head.seq + 1, head.hash, head.key)
        data = before + line
        if self.full is None:
            try:
                self._extend(data)
            except OSError as error:
                self.full = error
            else:
                head = replace(head, offset=head.offset + len(data))
        if self.full is not None:
            if not deferrable:
                raise self.full
            if head.reserve + len(data) > RESERVE:
                self.head = heads.advance(self._head, replace(head, lost=head.lost + 1))
                return
            _pwrite(self._reserve, data, head.reserve)
            head = replace(head, reserve=head.reserve + len(data))
        self._step(head, digest)
        if self.full is None and self.head.offset > ROTATE_AT:
            with contextlib.suppress(OSError, Broken):  # the record is written: a later one tries
                self.rotate()

    def rotate(self) -> str | None:
        """Close the current file and begin another; the closed one's name (None: it is empty).

        Raises OSError, Broken if a file of that name is there.
        """
        if self.head.offset == 0 or self.full is not None:
            return None
        target = self.places.closing(self.head.first, self.head.seq)
        if target.exists():
            raise Broken(f"{target.name} is there already")
        # Made first: without room for it nothing has changed.
        handle = _open(self.places.fresh, create=True)
        try:
            os.ftruncate(handle, 0)
            self.places.current.rename(target)
        except BaseException:
            os.close(handle)
            raise
        self._begin_file(handle)
        from shype.host.audit.event import Event, Result
        from shype.host.audit.stamp import stamped

        self.append(stamped(Event(
            kind="audit.rotate", result=Result.DONE, object=f"file:{target.name}",
        )), deferrable=True)
        return target.name

    # -- what a killed writer left ----------------------------------------------------------------

    def mend(self) -> None:
        """Bring head and file together. Raises Broken, OSError."""
        if self.head.reserve:
            self._adopt_reserve()
            self._drain()
        else:
            self._mend_file()
        if os.fstat(self._reserve).st_size < RESERVE:
            with contextlib.suppress(OSError):  # somebody removed it, and there may be no room
                os.posix_fallocate(self._reserve, 0, RESERVE)
        if self.head.lost and self.full is None:
            count, self.head = self.head.lost, replace(self.head, lost=0)
            self._note("audit.lost", {"events": count})

    def _mend_file(self) -> None:
        size = os.fstat(self._file).st_size
        if size < self.head.offset:
            self._end_rotation(size)
            size = os.fstat(self._file).st_size
        if size > self.head.offset:
            self._mend_tail(self._read(self._file, self.head.offset, size))
        elif os.pread(self._reserve, 1, 0).strip(b"\0"):
            self._adopt_reserve()
            if self.head.reserve:
                self._drain()

    def _mend_tail(self, tail: bytes) -> None:
        """Adopt the records in ``tail``, which stands behind the head; the rest of it is torn.

        Of a torn line it may say already that it is: then its writer was killed, too.
        """
        torn, missing = b"", not tail.endswith(b"\n")
        lines = [line + b"\n" for line in tail.removesuffix(b"\n").split(b"\n")]
        for number, line in enumerate(lines, 1):
            record = _continues(line, self.head)
            if record is None or (torn and not _tells_of(record, torn)):
                torn += line
                continue
            begin = self.head.offset + len(torn)
            if number == len(lines) and missing:
                self._complete(line, record, begin)
            else:
                self._step(replace(self.head, offset=begin + len(line)), record.hash)
            torn = b""
        if torn:
            self._mark_torn(torn, missing=missing)

    def _complete(self, line: bytes, record: Record, begin: int) -> None:
        """All of ``line`` is there but its end, at ``begin``: that is added, and it counts."""
        try:
            self._extend(b"\n")
            head = replace(self.head, offset=begin + len(line))
        except OSError as error:
            self.full = error
            _pwrite(self._reserve, line, 0)  # first there, then no longer here
            os.ftruncate(self._file, begin)
            head = replace(self.head, offset=begin, reserve=len(line))
        self._step(head, record.hash)

    def _adopt_reserve(self) -> None:
        """Step over the records in the reserve that its head does not know of."""
        data = self._read(self._reserve, self.head.reserve, RESERVE)
        for line in data.split(b"\n")[:-1]:
            record = _continues(line + b"\n", self.head)
            if record is None:
                return
            self._step(
                replace(self.head, reserve=self.head.reserve + len(line) + 1), record.hash)

    def _drain(self) -> None:
        """Move the reserve to the file, if there is room again."""
        data = self._read(self._reserve, 0, self.head.reserve)
        try:
            # What stands behind the offset was put there by an earlier try.
            os.ftruncate(self._file, self.head.offset)
            self._extend(data)
        except OSError as error:
            self.full = error
            return
        self.head = heads.advance(self._head, replace(
            self.head, offset=self.head.offset + len(data), reserve=0))
        os.pwrite(self._reserve, b"\0", 0)  # so that nobody looks into it any more

    def _mark_torn(self, torn: bytes, *, missing: bool) -> None:
        """Say in the next record that ``torn`` stands before it; nothing is removed.

        ``missing``: its last line end is not there yet.
        """
        # If that finds no room, the reserve continues behind the torn bytes.
        self.head = replace(self.head, offset=self.head.offset + len(torn) - missing)
        self._note("audit.torn", {
            "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest(),
        }, before=b"\n" if missing else b"")

    def _end_rotation(self, size: int) -> None:
        done = self.places.closing(self.head.first, self.head.seq)
        if size or not done.is_file() or done.stat().st_size != self.head.offset:
            raise Broken(f"{self.places.current.name} has {size} bytes, and had {self.head.offset}")
        self._begin_file(None)

    def _begin_file(self, fresh: int | None) -> None:
        """Go on in the empty file ``fresh``; None: the current one, which is empty already."""
        if fresh is not None:
            os.close(self._file)
            self._file = fresh
            self.places.fresh.rename(self.places.current)
        _sync_directory(self.places)
        self.head = heads.advance(self._head, replace(
            self.head, first=self.head.seq + 1, offset=0))

    # -- parts ------------------------------------------------------------------------------------

    def _note(self, kind: str, details: dict[str, Any], before: bytes = b"") -> None:
        from shype.host.audit.event import Event, Result
        from shype.host.audit.stamp import stamped

        event = Event(kind=kind, result=Result.DONE, details=details)
        self.append(stamped(event), deferrable=True, before=before)

    def _step(self, head: Head, digest: str) -> None:
        self.head = heads.advance(self._head, replace(
            head, seq=head.seq + 1, hash=digest, key=following(head.key)))
        write_anchor(self.places, self.head)

    def _extend(self, data: bytes) -> None:
        """Write at the end of the file, or leave it as it was and raise OSError."""
        size = os.fstat(self._file).st_size
        try:
            _pwrite(self._file, data, size)
        except OSError:
            with contextlib.suppress(OSError):  # else it is found, and marked as torn
                os.ftruncate(self._file, size)
            raise

    @staticmethod
    def _read(handle: int, begin: int, end: int) -> bytes:
        data = b""
        while begin + len(data) < end:
            part = os.pread(handle, end - begin - len(data), begin + len(data))
            if not part:
                break
            data += part
        return data

    def close(self) -> None:
        """Close the files."""
        for handle in (self._file, self._reserve, self._head):
            os.close(handle)


@contextlib.contextmanager
def opened(places: Places) -> Iterator[Writer]:
    """The writer at the end of the trail, mended. Hold the trail's lock.

    A trail that does not exist begins. Raises Broken, OSError.
    """
    try:
        head = heads.read(places.head)
    except heads.Damaged as error:
        raise Broken(f"{places.head.name} is damaged") from error
    check_anchor(places, head)
    if head is None:
        if places.current.exists() or places.closed():
            raise Broken(f"there are records and no {places.head.name}")
        head = _create(places)
    if len(head.key) != 32:
        raise Broken("this is a copy: it has no key")
    handles: list[int] = []
    try:
        # A missing file has no bytes: the writer judges that.
        for path, create in ((places.current, True), (places.reserve, True), (places.head, False)):
            handles.append(_open(path, create=create))
        writer = Writer(places, head, (handles[0], handles[1], handles[2]))
        handles = []
    finally:
        for handle in handles:
            os.close(handle)
    try:
        writer.mend()
        yield writer
    finally:
        writer.close()


def write_anchor(places: Places, head: Head) -> None:
    """Note how far the trail has come, in another directory. Not flushed: it may lag."""
    text = f"{head.seq:020d} {head.hash} {head.trail}"
    line = f"{text} {_check(text)}\n".encode()
    with contextlib.suppress(OSError):  # its absence weakens one check, and stops nothing
        handle = os.open(
            places.anchor, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(handle, line, 0)
        finally:
            os.close(handle)


def check_anchor(places: Places, head: Head | None) -> None:
    """Raises Broken if the trail had come further, or was another one."""
    try:
        words = places.anchor.read_text("ascii", errors="replace").split()
    except FileNotFoundError:
        return
    if len(words) != 4 or _check(" ".join(words[:3])) != words[3] or not words[0].isdigit():
        return  # half written by a killed process; the next record writes it anew
    seq, digest, trail = int(words[0]), words[1], words[2]
    if head is None:
        raise Broken(f"the trail is gone; it had {seq} records")
    if trail != head.trail:
        raise Broken(f"this is the trail {head.trail}, and not {trail}")
    if seq > head.seq or (seq == head.seq and digest != head.hash):
        raise Broken(f"the trail ends with record {head.seq}, and had record {seq}")


def _tells_of(record: Record, torn: bytes) -> bool:
    """Whether it is the record that says of ``torn`` that it is."""
    return record.body.get("kind") == "audit.torn" and record.body.get("details") == {
        "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _continues(line: bytes, head: Head) -> Record | None:
    """The record, if it is the next one and sealed by who had the key."""
    try:
        record = decode(line)
    except ValueError:
        return None
    fits = record.seq == head.seq + 1 and record.prev == head.hash
    return record if fits and record.mac == seal(head.key, record.hash) else None


def _create(places: Places) -> Head:
    """A new trail. Its head is written last: without it, this begins again."""
    from shype.host.audit.keyfile import text

    trail, key = os.urandom(8).hex(), Key(os.urandom(32))
    write_atomic(places.key, text(trail, key), 0o600)
    write_atomic(places.reserve, b"\0" * RESERVE, 0o600)
    head = Head(trail, 0, ZERO, 1, 0, 0, 0, 0, key).proved()
    write_atomic(places.head, heads.image(head), 0o600)
    return head


def _open(path: os.PathLike[str], *, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.open(path, flags | (os.O_CREAT if create else 0), 0o600)


def _pwrite(handle: int, data: bytes, place: int) -> None:
    """All of it, durably."""
    written = 0
    while written < len(data):
        count = os.pwrite(handle, data[written:], place + written)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += count
    os.fdatasync(handle)


def _sync_directory(places: Places) -> None:
    handle = os.open(places.directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


assert MAX_LINE < RESERVE
