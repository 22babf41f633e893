"""XEN_SYSCTL_readconsole, against a ring that works as xen/drivers/char/console.c says."""

from __future__ import annotations

import ctypes
import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import Unavailable
from shype.host.drivers.xen.console import read

WRAP = 2**32


class Ring:
    """read_console_ring(): offsets from the public header sysctl.h."""

    def __init__(self, size: int, printed: int = 0, version: int = 0x15) -> None:
        self.size, self.version = size, version
        self.data, self.c, self.p = bytearray(size), printed % WRAP, printed % WRAP

    def put(self, text: bytes) -> None:
        for byte in text:
            self.data[self.p % self.size] = byte
            self.p = (self.p + 1) % WRAP
            if (self.p - self.c) % WRAP > self.size:
                self.c = (self.p - self.size) % WRAP

    def __call__(self, address: int) -> int:
        command, version = struct.unpack("=2I", ctypes.string_at(address, 8))
        assert command == 1
        if version != self.version:
            raise OSError(errno.EACCES, "Permission denied")
        clear, incremental, _, index, buffer, count = struct.unpack(
            "=2BHIQI", ctypes.string_at(address + 8, 20))
        assert clear == 0
        c, p = self.c, self.p
        if incremental and (c < index <= p if c < p else c < index or index <= p):
            c = index
        sofar = 0
        while c != p and sofar < count:
            at = c % self.size
            length = min(self.size - at, count - sofar, (p - c) % WRAP)
            ctypes.memmove(buffer + sofar, bytes(self.data[at:at + length]), length)
            sofar, c = sofar + length, (c + length) % WRAP
        ctypes.memmove(address + 12, struct.pack("=I", c), 4)
        ctypes.memmove(address + 24, struct.pack("=I", sofar), 4)
        return 0


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(0, 2**33),
       st.sampled_from((64, 256)))
def test_all_that_is_not_overwritten_is_read_once_and_the_rest_is_counted(
    pieces: list[bytes], printed: int, size: int
) -> None:
    ring = Ring(size, printed)
    at = read(None, ring).end
    assert at == ring.p
    for piece in pieces:
        ring.put(piece)
        found = read(at, ring)
        lost = (found.start - at) % WRAP
        assert found.text == piece[lost:]
        assert lost == max(0, len(piece) - size)
        at = found.end


def test_a_large_ring_is_read_in_pieces() -> None:
    ring = Ring(256 * 1024)
    text = bytes(n % 251 for n in range(200_000))
    ring.put(text)
    assert read(None, ring).text == text
    assert read(199_000, ring).text == text[199_000:]


def test_an_older_interface_is_tried_and_no_other() -> None:
    ring = Ring(64, version=0x14)
    ring.put(b"hello\n")
    assert read(None, ring).text == b"hello\n"
    with pytest.raises(Unavailable) as caught:
        read(None, Ring(64, version=0x99))
    assert caught.value.id == "host.console"
