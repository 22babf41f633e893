"""XenStore's word of an ending, from a socket that behaves as xenstored's does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.host.drivers.xen import xenstore
from shype.host.drivers.xen.xenstore import endings

#: xs_wire.h: XS_WATCH, and its answer; XS_WATCH_EVENT.
WATCH, EVENT = 4, 15
ASKED = b"@releaseDomain\0shype\0"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        made.listen()
        made.settimeout(30)
        yield made


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it slept instead of being told; it does not."""
    seconds = list[float]()
    monkeypatch.setattr("shype.host.drivers.xen.xenstore.time.sleep", seconds.append)
    return seconds


def message(kind: int, data: bytes) -> bytes:
    return struct.pack("=4I", kind, 0, 0, len(data)) + data


def test_it_asks_for_endings_and_wakes_when_there_is_one(
    listener: socket.socket, tmp_path: Path, slept: list[float]
) -> None:
    with endings(tmp_path / "socket") as wait:
        peer = listener.accept()[0]
        with peer:
            assert peer.recv(4096) == message(WATCH, ASKED)
            wait(0)  # nothing yet: it does not block
            peer.sendall(message(WATCH, b"OK\0") + message(EVENT, ASKED))
            wait(60)
            thread = threading.Timer(0.1, peer.sendall, (message(EVENT, ASKED),))
            thread.start()
            wait(60)
            thread.join()
            wait(0)  # what was heard is heard
    assert slept == []


def test_a_daemon_that_ends_or_is_not_there_is_looked_for_often(
    listener: socket.socket, tmp_path: Path, slept: list[float]
) -> None:
    with endings(tmp_path / "socket") as wait:
        listener.accept()[0].close()
        wait(60)  # hears that it has ended
        wait(60)
        wait(0.2)
    with endings(tmp_path / "none") as wait:
        wait(60)
    assert slept == [xenstore.POLL, 0.2, xenstore.POLL]
