"""Who runs, by the hypervisor's own word: XEN_SYSCTL_getdomaininfolist and FLASK's contexts.

Interface: struct xen_domctl_getdomaininfo and xen_sysctl_getdomaininfolist in
xen/include/public/{domctl,sysctl}.h of Xen 4.16 to 4.19 on x86.  It asks neither xl nor XenStore,
so that the manager can do without dom0.  The hypervisor leaves out whom the caller may not see.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from dataclasses import dataclass
from typing import Protocol

from shype.base.errors import Unavailable
from shype.host.drivers.xen.console import VERSIONS, sysctl
from shype.host.drivers.xen.flask import MAP_LOCKED, MAP_POPULATE, PAGE, Caller

_GETDOMAININFOLIST = 6
#: cmd, interface_version; then first_domain, max_domains, buffer, num_domains.
_OPERATION = struct.Struct("=2I" "H2xIQI4x")
#: domain, flags; tot_pages, five 64-bit numbers, cpu_time; nr_online_vcpus, max_vcpu_id; ssidref;
#: handle; cpupool and the rest.
_ENTRY = struct.Struct("=H2xI" "Q40xQ" "I4x" "I" "16s" "4x8x8x")
#: Domains that are asked for at a time.
_SOME = 256
#: XEN_DOMINF_dying, XEN_DOMINF_shutdown.
_DYING = 1
_SHUTDOWN = 4


@dataclass(frozen=True, slots=True)
class Listed:
    """One domain: what the hypervisor itself knows of it.

    ``cpu_ns``: what its virtual processors have run since it was created, nanoseconds. ``pages``
    of 4 KiB are what it holds now. ``stopped``: it has shut down, and runs no more.
    """

    domid: int
    context: str
    dying: bool
    uuid: str = ""
    cpu_ns: int = 0
    pages: int = 0
    vcpus: int = 0
    stopped: bool = False


class Contexts(Protocol):
    """Knows the contexts behind SIDs (`shype.host.drivers.xen.access.Questions`)."""

    def context(self, sid: int) -> str: ...


def listed(questions: Contexts, call: Caller = sysctl) -> tuple[Listed, ...]:
    """All domains, by domid. Raises Unavailable (``host.domains``, ``host.flask``)."""
    found: list[Listed] = []
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
    with mmap.mmap(-1, PAGE + -(-_SOME * _ENTRY.size // PAGE) * PAGE, flags=flags) as memory:
        window = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(window)
        try:
            first = 0
            while True:
                count = _some(call, memory, address, first)
                for number in range(count):
                    domid, state, pages, cpu_ns, vcpus, sid, handle = _ENTRY.unpack_from(
                        memory, PAGE + number * _ENTRY.size)
                    found.append(Listed(
                        domid, questions.context(sid), bool(state & _DYING), _uuid(handle), cpu_ns,
                        pages, vcpus, bool(state & _SHUTDOWN)))
                if count < _SOME:
                    break
                first = found[-1].domid + 1
        except OSError as error:
            raise Unavailable(
                "host.domains", f"the hypervisor does not list its domains: {error.strerror}",
                "is it a release that this shype knows?",
            ) from error
        finally:
            del window  # an exported pointer keeps the mapping from closing
    # A structure of another release would be read wrong: dom0 is always the first.
    domids = [domain.domid for domain in found]
    if domids[:1] != [0] or domids != sorted({*domids}):
        raise Unavailable("host.domains", f"the hypervisor lists the domains {domids[:9]}",
                          "is it a release that this shype knows?")
    return tuple(found)


def _uuid(handle: bytes) -> str:
    text = handle.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _some(call: Caller, memory: mmap.mmap, address: int, first: int) -> int:
    for version in VERSIONS:
        memory[:_OPERATION.size] = _OPERATION.pack(
            _GETDOMAININFOLIST, version, first, _SOME, address + PAGE, 0)
        try:
            call(address)
        except OSError as error:
            # Xen's answer to a version that is not its own.
            if error.errno != errno.EACCES or version == VERSIONS[-1]:
                raise
            continue
        return int(_OPERATION.unpack_from(memory)[5])
    raise AssertionError("unreachable")
