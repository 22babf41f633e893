"""A storage domain that serves two coalitions: keeps texts by name for the VMs that ask.

Runs in the guest, beside object_manager.py. A client VM C asks over a page that it grants and
an event channel that it offers to this domain, and says which in XenStore, in the directory that
only C can write and only this domain can read (`/local/domain/C/shype/to-THIS`):

    port, grant     of the channel and of the page
    request         any text, written last; another one for every request

The page begins with the request, `put NAME TEXT` or `get NAME`; the answer stands at
2048. Then the event channel is notified. Nothing in the page says who asks.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from object_manager import Access, Answer, Id, Monitor, Peer, Unanswered

ANSWER_AT, LONGEST = 2048, 255
#: Seconds between two looks at XenStore.
PAUSE = 0.2


def _ioctl(kind: str, number: int, size: int) -> int:
    return size << 16 | ord(kind) << 8 | number


class Store:
    """XenStore, as a guest reaches it."""

    DIRECTORY, READ, WRITE, ERROR = 1, 2, 11, 16

    def __init__(self) -> None:
        self._device = os.open("/dev/xen/xenbus", os.O_RDWR | os.O_CLOEXEC)

    def ask(self, kind: int, path: str, value: str | None = None) -> str | None:
        """The answer; None if there is none."""
        payload = path.encode() + b"\0" + (value or "").encode()
        os.write(self._device, struct.pack("<IIII", kind, 1, 0, len(payload)) + payload)
        said, _, _, length = struct.unpack("<IIII", self._take(16))
        body = self._take(length)
        return None if said == self.ERROR else body.rstrip(b"\0").decode("ascii", "replace")

    def _take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += os.read(self._device, length - len(data))
        return data

    def children(self, path: str) -> list[str]:
        """The names below ``path``."""
        return [word for word in (self.ask(self.DIRECTORY, path) or "").split("\0") if word]


class Channels:
    """Event channels."""

    def __init__(self) -> None:
        self._device = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)

    def bind(self, domid: int, port: int) -> int:
        """This domain's end of a channel that ``domid`` offers it. Raises OSError."""
        # (of what is not mutable, fcntl gives a copy back and not the result)
        return fcntl.ioctl(self._device, _ioctl("E", 1, 8),
                           bytearray(struct.pack("=II", domid, port)))

    def close(self, port: int) -> None:
        """Give it up."""
        fcntl.ioctl(self._device, _ioctl("E", 3, 4), struct.pack("=I", port))

    def notify(self, port: int) -> None:
        """Tell the peer that something is there."""
        fcntl.ioctl(self._device, _ioctl("E", 4, 4), struct.pack("=I", port))


class Pages:
    """Copies between this domain and pages that others grant it."""

    def __init__(self) -> None:
        self._device = os.open("/dev/xen/gntdev", os.O_RDWR | os.O_CLOEXEC)

    def read(self, domid: int, grant: int) -> bytes:
        """The request in a page. Raises OSError."""
        return self._copy(domid, grant, None)

    def write(self, domid: int, grant: int, data: bytes) -> None:
        """Put an answer into it. Raises OSError."""
        self._copy(domid, grant, data)

    def _copy(self, domid: int, grant: int, data: bytes | None) -> bytes:
        here = ctypes.create_string_buffer(data or b"", LONGEST + 1)
        local = struct.pack("=Q", ctypes.addressof(here))
        remote = struct.pack("=IHH", grant, 0 if data is None else ANSWER_AT, domid)
        # struct gntdev_grant_copy_segment: source, destination, length, flags, status
        ends, flags = (remote + local, 1) if data is None else (local + remote, 2)
        segment = ctypes.create_string_buffer(
            struct.pack("=16sHHhxx", ends, LONGEST + 1, flags, 0), 24)
        copy = struct.pack("=I4xQ", 1, ctypes.addressof(segment))
        fcntl.ioctl(self._device, _ioctl("G", 8, 16), copy)
        status = struct.unpack_from("=h", segment, 20)[0]
        if status != 0:
            raise OSError(1, f"the hypervisor refused the copy: {status}")
        return here.raw.partition(b"\0")[0]


@dataclass
class Client:
    """A domain that asks: its channel, and who the hypervisor says it is."""

    domid: int
    remote: int
    port: int
    peer: Peer


@dataclass
class Storage:
    """What is kept: by name, and by the context of whoever made it, a text.

    Each label has names of its own. Otherwise a name that is taken would tell one coalition
    what another keeps.
    """

    monitor: Monitor
    kept: dict[str, dict[str, str]] = field(default_factory=dict)

    def serve(self, peer: Peer, request: str) -> str:
        """One request of ``peer``'s."""
        word, _, rest = request.partition(" ")
        name, _, text = rest.partition(" ")
        if not name or word not in ("get", "put"):
            return "error: put NAME TEXT, or get NAME"
        return self._put(peer, name, text) if word == "put" else self._get(peer, name)

    def _put(self, peer: Peer, name: str, text: str) -> str:
        """An object carries the label of its maker, whatever the request says."""
        answer = self.monitor.decide(peer, peer.context, Access.WRITE)
        if answer.permitted:
            self.kept.setdefault(name, {})[peer.context] = text
        return said(answer)

    def _get(self, peer: Peer, name: str) -> str:
        """The maker's own, else another label's that the policy lets it read: a lower level's.

        What is not there is refused like what is others'.
        """
        found = self.kept.get(name, {})
        for context in sorted(found, key=lambda one: one != peer.context):
            answer = self.monitor.decide(peer, context, Access.READ)
            if answer.permitted:
                return said(answer, found[context])
            if answer.id not in (Id.DENIED, Id.UNKNOWN_LABEL):  # which tell of others' objects
                return said(answer)
        return f"refused {Id.DENIED}"


def said(answer: Answer, value: str = "") -> str:
    """An answer as the client gets it."""
    return f"ok {value}".rstrip() if answer.permitted else f"refused {answer.id}"


class Server:
    """The loop around it."""

    def __init__(self) -> None:
        self._store, self._channels, self._pages = Store(), Channels(), Pages()
        self._monitor = Monitor()
        self._storage = Storage(self._monitor)
        self._clients: dict[int, Client] = {}
        self._seen: dict[int, str] = {}
        self._own = int(self._store.ask(Store.READ, "domid") or "-1")

    def report(self, name: str, text: str) -> None:
        """Where an administrator can read it."""
        self._store.ask(Store.WRITE, f"data/{name}", text)

    def run(self) -> None:
        """For ever."""
        self.report("storage", "serves")
        while True:
            for domid, place, request in self._requests():
                self._one(domid, place, request)
            for client in list(self._clients.values()):
                self._still(client)
            time.sleep(PAUSE)

    def _requests(self) -> Iterator[tuple[int, str, str]]:
        for name in self._store.children(f"/local/domain/{self._own}/shype"):
            if name.startswith("from-"):
                place = self._store.ask(Store.READ, f"/local/domain/{self._own}/shype/{name}")
                request = self._store.ask(Store.READ, f"{place}/request")
                if place is not None and request is not None:
                    yield int(name.removeprefix("from-")), place, request

    def _one(self, domid: int, place: str, request: str) -> None:
        if self._seen.get(domid) == request:
            return
        self._seen[domid] = request
        client = self._clients.get(domid)
        try:
            port, grant = (int(self._store.ask(Store.READ, f"{place}/{name}") or "")
                           for name in ("port", "grant"))
            if client is None or client.remote != port:
                client = self._meet(domid, port)
            asked = self._pages.read(domid, grant).decode("ascii", "replace")
            answer = self._storage.serve(client.peer, asked)
            self._pages.write(domid, grant, answer.encode())
            self._channels.notify(client.port)
        except (OSError, ValueError, OverflowError, struct.error, Unanswered) as error:
            self.report("error", f"{domid} {request}: {error}")
            return
        self.report("last", f"{client.peer.context} {asked} -> {answer}")

    def _meet(self, domid: int, port: int) -> Client:
        """A channel that this very domain offers; with any other the hypervisor does not bind."""
        if (old := self._clients.pop(domid, None)) is not None:
            self._channels.close(old.port)
        own = self._channels.bind(domid, port)
        try:
            client = Client(domid, port, own, self._monitor.peer(own))
        except Unanswered:
            self._channels.close(own)
            raise
        self._clients[domid] = client
        return client

    def _still(self, client: Client) -> None:
        """A channel without a peer is closed: the next domain of this number is another one."""
        answer = self._monitor.decide(client.peer, client.peer.context, Access.READ)
        if answer.id in (Id.NO_PEER, Id.OTHER_PEER):
            self._channels.close(client.port)
            del self._clients[client.domid]
            self._seen.pop(client.domid, None)
            self.report("gone", f"{client.domid} {answer.id}")


if __name__ == "__main__":
    Server().run()
