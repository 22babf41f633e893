"""A TPM gets each command of its guest whole, and one at a time, whatever the guest sends."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from shype.host.vtpm import gather

HEAD = struct.Struct(">HII")
COMMAND_SIZE = HEAD.pack(0x8001, 10, 0x142)
Streams = tuple[socket.socket, socket.socket]


def command(size: int, code: int = 0x17B) -> bytes:
    return HEAD.pack(0x8001, size, code) + bytes(size - HEAD.size)


@pytest.fixture
def streams() -> Iterator[Streams]:
    """The guest's end and the TPM's."""
    (guest, one), (tpm, two) = socket.socketpair(), socket.socketpair()
    thread = threading.Thread(target=gather.serve, args=(one, two, 0.3))
    thread.start()
    for stream in (guest, tpm):
        stream.settimeout(10)
    yield guest, tpm
    for stream in (guest, tpm):
        stream.close()
    thread.join(10)
    assert not thread.is_alive()
    for stream in (one, two):
        stream.close()


def test_the_next_command_waits_for_the_answer_to_the_last(streams: Streams) -> None:
    guest, tpm = streams
    guest.sendall(command(300) + command(12, 1))
    assert tpm.recv(4096) == command(300)
    tpm.settimeout(0.2)
    with pytest.raises(TimeoutError):
        tpm.recv(4096)
    tpm.settimeout(10)
    answer = command(2000, 0)
    tpm.sendall(answer[:7])
    tpm.sendall(answer[7:])
    assert tpm.recv(4096) == command(12, 1)
    got = b""
    while len(got) < len(answer):
        got += guest.recv(4096)
    assert got == answer


@pytest.mark.parametrize("nonsense", [
    HEAD.pack(0x8001, 0xFFFFFFFF, 0x17B) + bytes(9000), HEAD.pack(0x8001, 9, 0x17B), bytes(70000),
    command(300)[:200],
])
def test_what_is_no_command_is_answered_and_does_not_reach_the_tpm(
    streams: Streams, nonsense: bytes
) -> None:
    guest, tpm = streams
    guest.sendall(nonsense)
    assert guest.recv(4096) == COMMAND_SIZE
    guest.sendall(command(12))
    assert tpm.recv(4096) == command(12)


def test_an_answer_of_impossible_size_ends_it(streams: Streams) -> None:
    guest, tpm = streams
    guest.sendall(command(12))
    assert tpm.recv(4096)
    tpm.sendall(HEAD.pack(0x8001, 5, 0))
