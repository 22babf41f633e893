"""A daemon that speaks XenStore's protocol on a socket, as far as the client needs it.

It is written from docs/misc/xenstore.txt of Xen, apart from the client.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Answers a request ``(type, payload)`` with ``(type, payload)``.
Handler = Callable[[int, bytes], tuple[int, bytes]]


@contextmanager
def daemon(place: Path, handle: Handler, *, before: bytes = b"") -> Iterator[Path]:
    """Serve one connection at a time; ``before`` is sent ahead of each answer (watch events)."""
    path = place / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, handle, before), daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    path.unlink()


def _serve(listener: socket.socket, handle: Handler, before: bytes) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer, peer.makefile("rb") as stream:
            while len(head := stream.read(16)) == 16:
                kind, ident, transaction, length = struct.unpack("<4I", head)
                assert transaction == 0
                answer, data = handle(kind, stream.read(length))
                if answer < 0:
                    break  # dies
                peer.sendall(before + struct.pack("<4I", answer, ident, 0, len(data)) + data)
