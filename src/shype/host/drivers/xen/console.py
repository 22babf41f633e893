"""The hypervisor's console ring, read from where the last reading ended.

Interface: xen/include/public/sysctl.h, XEN_SYSCTL_readconsole.  Its index is the number of bytes
printed since Xen booted (32 bits), so what is new, and how much was overwritten, is exact; ``xl
dmesg`` does not tell it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct

from shype.base.errors import Unavailable
from shype.host.drivers.xen.flask import MAP_LOCKED, MAP_POPULATE, PAGE, Caller, hypercall
from shype.host.hypervisor import ConsoleText

_HYPERCALL_SYSCTL = 35
_READCONSOLE = 1
#: XEN_SYSCTL_INTERFACE_VERSION, newest first: 4.17 to 4.19; 4.15 and 4.16 before it.
VERSIONS = (0x15, 0x14)
#: cmd, interface_version; then clear, incremental, pad, index, buffer, count.
_OPERATION = struct.Struct("=2I" "2BHIQI")
#: Bytes that are read at a time.
_ROOM = 16 * PAGE


def sysctl(address: int) -> int:
    """The real `Caller`."""
    return hypercall(_HYPERCALL_SYSCTL, address)


def read(after: int | None, call: Caller = sysctl) -> ConsoleText:
    """See `shype.host.hypervisor.Hypervisor.console`. Raises Unavailable (``host.console``)."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
    with mmap.mmap(-1, PAGE + _ROOM, flags=flags) as memory:
        window = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(window)
        try:
            start, text = None, b""
            while True:
                end, count = _once(call, memory, address, after)
                text += memory[PAGE:PAGE + count]
                if start is None:
                    start = (end - count) % 2**32
                after = end
                if count < _ROOM:
                    return ConsoleText(start, text)
        except OSError as error:
            raise Unavailable(
                "host.console", f"the hypervisor's console cannot be read: {error.strerror}",
                "run the command as root in dom0",
            ) from error
        finally:
            del window  # an exported pointer keeps the mapping from closing


def _once(call: Caller, memory: mmap.mmap, address: int, after: int | None) -> tuple[int, int]:
    """Where the reading ended, and how many bytes it got."""
    for version in VERSIONS:
        memory[:_OPERATION.size] = _OPERATION.pack(
            _READCONSOLE, version, 0, after is not None, 0, after or 0, address + PAGE, _ROOM)
        try:
            call(address)
        except OSError as error:
            # Xen's answer to a version that is not its own.
            if error.errno != errno.EACCES or version == VERSIONS[-1]:
                raise
            continue
        *_, index, _, count = _OPERATION.unpack_from(memory)
        return index, count
    raise AssertionError("unreachable")
