"""XEN_SYSCTL_getdomaininfolist, against a hypervisor that answers as the public headers say."""

from __future__ import annotations

import ctypes
import errno
import struct
import uuid

import pytest

from shype.base.errors import Unavailable
from shype.host.drivers.xen.listing import Listed, listed


class Hypervisor:
    """Offsets from sysctl.h and domctl.h, by hand."""

    def __init__(self, domains: list[tuple[int, int, int]], version: int = 0x15) -> None:
        self.domains, self.version = domains, version

    def __call__(self, address: int) -> int:
        command, version = struct.unpack("=2I", ctypes.string_at(address, 8))
        assert command == 6
        if version != self.version:
            raise OSError(errno.EACCES, "Permission denied")
        first, = struct.unpack("=H", ctypes.string_at(address + 8, 2))
        most, = struct.unpack("=I", ctypes.string_at(address + 12, 4))
        buffer, = struct.unpack("=Q", ctypes.string_at(address + 16, 8))
        found = [domain for domain in self.domains if domain[0] >= first][:most]
        for number, (domid, flags, sid) in enumerate(found):
            entry = bytearray(112)
            struct.pack_into("=H", entry, 0, domid)
            struct.pack_into("=I", entry, 4, flags)
            struct.pack_into("=Q", entry, 8, 1000 + domid)  # tot_pages
            struct.pack_into("=Q", entry, 56, domid * 10**9)  # cpu_time
            struct.pack_into("=I", entry, 64, 2)  # nr_online_vcpus
            struct.pack_into("=I", entry, 72, sid)
            entry[76:92] = uuid.UUID(int=domid).bytes
            ctypes.memmove(buffer + 112 * number, bytes(entry), 112)
        ctypes.memmove(address + 24, struct.pack("=I", len(found)), 4)
        return 0


class Contexts:
    def context(self, sid: int) -> str:
        return f"context {sid}"


def ask(hypervisor: Hypervisor) -> tuple[Listed, ...]:
    return listed(Contexts(), hypervisor)


@pytest.mark.parametrize("version", [0x15, 0x14])
def test_all_domains_and_who_is_dying(version: int) -> None:
    many = [(domid, domid % 2, 100 + domid) for domid in range(700)]
    assert ask(Hypervisor(many, version)) == tuple(
        Listed(domid, f"context {100 + domid}", bool(domid % 2), str(uuid.UUID(int=domid)),
               domid * 10**9, 1000 + domid, 2) for domid in range(700))


@pytest.mark.parametrize("domains", [[], [(1, 0, 1)], [(0, 0, 1), (0, 0, 2)]])
def test_a_list_without_dom0_is_not_believed(domains: list[tuple[int, int, int]]) -> None:
    with pytest.raises(Unavailable, match=r"host\.domains"):
        ask(Hypervisor(domains))


def test_another_interface() -> None:
    with pytest.raises(Unavailable, match=r"host\.domains"):
        ask(Hypervisor([(0, 0, 1)], 0x99))
