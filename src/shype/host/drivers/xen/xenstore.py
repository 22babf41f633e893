"""XenStore's word that a domain has ended: a watch on ``@releaseDomain``, and nothing else.

Protocol: xen/include/public/io/xs_wire.h.  A message is a header of four numbers (type,
request, transaction, length) and its payload.  xenstored fires that watch when a domain shuts
down and when it is gone, and once when the watch is set.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: Where xenstored listens.
SOCKET = Path(os.environ.get("XENSTORED_RUNDIR", "/run/xenstored")) / "socket"
#: Seconds between two looks where xenstored gives no word.
POLL = 1.0

_HEADER = struct.Struct("=4I")
_WATCH = 4
_SPECIAL = b"@releaseDomain\0shype\0"


@contextlib.contextmanager
def endings(path: Path = SOCKET) -> Iterator[Callable[[float], bool]]:
    """A function that waits for an ending; see `shype.host.hypervisor.Hypervisor.endings`.

    Without an answer from xenstored (or when it ends) the function only sleeps, at most
    `POLL` seconds: the caller then looks that often.
    """
    with contextlib.ExitStack() as open_links:
        try:
            link = open_links.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(str(path))
            link.sendall(_HEADER.pack(_WATCH, 0, 0, len(_SPECIAL)) + _SPECIAL)
        except OSError:
            yield _sleep
            return
        heard = _Link(link)
        yield heard.wait


def _sleep(seconds: float) -> bool:
    time.sleep(min(seconds, POLL))
    return True


class _Link:
    """What is heard says only that something ended; so its content does not matter."""

    def __init__(self, link: socket.socket) -> None:
        self._link: socket.socket | None = link

    def wait(self, seconds: float) -> bool:
        """Until something is heard, at most ``seconds``; whether to look."""
        if self._link is None:
            return _sleep(seconds)
        if not select.select([self._link], [], [], seconds)[0]:
            return False
        try:
            if not self._link.recv(65536):
                self._link = None
        except OSError:
            self._link = None
        return True
