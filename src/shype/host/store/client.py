"""XenStore's wire protocol on the daemon's socket in dom0. Standard library only.

Messages: docs/misc/xenstore.txt and xen/include/public/io/xs_wire.h of Xen: a header of four
little-endian 32-bit words (type, request id, transaction, length), then the payload. The
daemon answers the requests of one connection in order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from shype.base.errors import Unavailable
from shype.host.store.store import Acl, StoreError

#: The socket that only root may open (tools/xenstore: XEN_RUN_STORED).
SOCKETS = (Path("/run/xenstored/socket"), Path("/var/run/xenstored/socket"))
#: Seconds that the daemon may take for one answer, a live update included.
ANSWER = 30.0
#: Requests sent before their answers are read: few enough for the socket's buffer.
BATCH = 64
#: Largest payload (XENSTORE_PAYLOAD_MAX).
LARGEST = 4096

_HEADER = struct.Struct("<IIII")


class Kind(IntEnum):
    """Message types that the agent uses (enum xsd_sockmsg_type)."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    DIRECTORY_PART = 22


class Client:
    """Implements `shype.host.store.store.Store`. A context manager, since it holds a socket.

    Raises Unavailable (``host.no-xenstore``) if no daemon listens at ``path``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._number = 0
        place = path or next((found for found in SOCKETS if found.exists()), SOCKETS[0])
        self._socket.settimeout(ANSWER)
        try:
            self._socket.connect(str(place))
        except OSError as error:
            self._socket.close()
            raise _silent(f"{place}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._socket.close()

    # -- the Store protocol -------------------------------------------------------------------

    def directory(self, path: str) -> tuple[str, ...]:
        """See the protocol."""
        try:
            return _words(self._ask(Kind.DIRECTORY, path))
        except StoreError as error:
            if error.errno != "E2BIG":
                raise
        return self.listing(path)[1]

    def listing(self, path: str) -> tuple[str, tuple[str, ...]]:
        """See the protocol; asks again from the start if the children change meanwhile."""
        while True:
            mark, listed, done = None, b"", False
            while not done:
                found, _, part = self._ask(
                    Kind.DIRECTORY_PART, path, str(len(listed))).partition(b"\0")
                if mark is not None and found != mark:
                    break
                # the last part ends with an empty name
                mark, done = found, part.endswith(b"\0\0") or part == b"\0"
                listed += part[:-1] if done else part
                if not part:
                    raise Unavailable("store.answer", f"XenStore lists {path} without an end")
            if done and mark is not None:
                return mark.decode("ascii", "replace"), _words(listed)

    def read(self, path: str) -> bytes:
        """See the protocol."""
        return self._ask(Kind.READ, path)

    def write(self, path: str, value: bytes) -> None:
        """See the protocol."""
        self._ask(Kind.WRITE, path, raw=value)

    def make(self, path: str) -> None:
        """See the protocol."""
        self._ask(Kind.MKDIR, path)

    def remove(self, path: str) -> None:
        """See the protocol."""
        try:
            self._ask(Kind.RM, path)
        except StoreError as error:
            if error.errno != "ENOENT":
                raise

    def acl(self, path: str) -> Acl:
        """See the protocol."""
        return Acl.parse(_words(self._ask(Kind.GET_PERMS, path)))

    def set_acl(self, path: str, acl: Acl) -> None:
        """See the protocol."""
        self._ask(Kind.SET_PERMS, path, *acl.words)

    def control(self, *words: str) -> str:
        """See the protocol."""
        return self._ask(Kind.CONTROL, *words).rstrip(b"\0").decode("utf-8", "replace")

    def acls(self) -> Mapping[str, Acl]:
        """See the protocol. Level by level, many requests at a time: a store has hundreds of nodes.

        Two requests per node.
        """
        found: dict[str, Acl] = {}
        level = ["/"]
        while level:
            below: list[str] = []
            lists = self._many([(Kind.GET_PERMS, path) for path in level])
            children = self._many([(Kind.DIRECTORY, path) for path in level])
            for path, words, names in zip(level, lists, children, strict=True):
                if words is None:
                    continue  # gone since its parent was listed
                found[path] = Acl.parse(_words(words))
                listed = _words(names) if names is not None else self._still(path)
                below += [f"{path.rstrip('/')}/{name}" for name in listed]
            level = below
        return found

    def _still(self, path: str) -> tuple[str, ...]:
        """The children of a node whose list was refused: it is too long, or the node is gone."""
        try:
            return self.directory(path)
        except StoreError as error:
            if error.errno == "ENOENT":
                return ()
            raise

    # -- messages -----------------------------------------------------------------------------

    def _ask(self, kind: Kind, *words: str, raw: bytes = b"") -> bytes:
        number = self._send(kind, _payload(words, raw))
        answer, data = self._answer(number)
        if answer == Kind.ERROR:
            raise StoreError(data.rstrip(b"\0").decode("ascii", "replace"),
                             f"{kind.name.lower()} {' '.join(words)}")
        if answer != kind:
            raise Unavailable("store.answer", f"XenStore answered {kind.name} with {answer}")
        return data

    def _many(self, asked: Sequence[tuple[Kind, str]]) -> list[bytes | None]:
        """The answers, None where the daemon said ENOENT or E2BIG. Raises as `_ask`."""
        return list(self._batches(asked))

    def _batches(self, asked: Sequence[tuple[Kind, str]]) -> Iterator[bytes | None]:
        for start in range(0, len(asked), BATCH):
            part = asked[start : start + BATCH]
            numbers = [self._send(kind, _payload((path,))) for kind, path in part]
            for number, (kind, path) in zip(numbers, part, strict=True):
                answer, data = self._answer(number)
                if answer == kind:
                    yield data
                    continue
                said = data.rstrip(b"\0").decode("ascii", "replace")
                if answer != Kind.ERROR or said not in ("ENOENT", "E2BIG"):
                    raise StoreError(said, f"{kind.name.lower()} {path}")
                yield None

    def _send(self, kind: Kind, payload: bytes) -> int:
        if len(payload) > LARGEST:
            raise Unavailable("store.answer", f"a request to XenStore of {len(payload)} bytes")
        self._number += 1
        try:
            self._socket.sendall(_HEADER.pack(kind, self._number, 0, len(payload)) + payload)
        except OSError as error:
            raise _silent(str(error)) from error
        return self._number

    def _answer(self, number: int) -> tuple[int, bytes]:
        while True:
            kind, ident, _, length = _HEADER.unpack(self._receive(_HEADER.size))
            if length > LARGEST:
                raise Unavailable("store.answer", f"an answer of XenStore of {length} bytes")
            data = self._receive(length)
            if kind == Kind.WATCH_EVENT:
                continue
            if ident != number:
                raise Unavailable("store.answer", "XenStore answered another request")
            return kind, data

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except OSError as error:
                raise _silent(str(error)) from error
            if not part:
                raise _silent("it closed the connection")
            data += part
        return data


def _payload(words: Sequence[str], raw: bytes = b"") -> bytes:
    return b"".join(word.encode() + b"\0" for word in words) + raw


def _words(data: bytes) -> tuple[str, ...]:
    return tuple(word.decode("utf-8", "surrogateescape") for word in data.split(b"\0") if word)


def require_listener() -> None:
    """Somebody listens at the daemon's socket, if it has one here.

    xl would wait a minute for a daemon that is gone. Raises Unavailable (``host.no-xenstore``).
    """
    if any(place.exists() for place in SOCKETS):  # else it may run in a domain of its own
        with Client():
            pass


def _silent(why: str) -> Unavailable:
    return Unavailable(
        "host.no-xenstore", f"xenstored does not answer ({why})",
        "nothing starts without it: look for xenstored in ps and in syslog; if it was killed, its "
        "contents are lost and the host must be rebooted",
    )
