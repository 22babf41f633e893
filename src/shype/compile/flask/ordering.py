"""Put the object contexts of a binary policy into the order that the hypervisor relies on.

security_iterate_ioport_sids() and security_iterate_iomem_sids() in
xen/xsm/flask/ss/services.c walk a list once, upwards, and take what they do
not meet for unlabelled.  secilc sorts ranges by their *size*, so that a large
range below a small one would lose its label.  Nothing in CIL can change that;
the file is of the same length in either order.
"""

from __future__ import annotations

import struct

#: Initial SIDs that a release may have; their contexts stand right before the others.
_SIDS = range(8, 65)


def in_order(data: bytes) -> bytes:
    """``data`` with its port and memory contexts by ascending address.

    On disk (32 bit, little endian): contexts of the initial SIDs, of IRQs, of
    ports, of memory (64 bit) and of PCI devices, each section a number of
    entries and then that many.  Raises ValueError if they cannot be found.
    """
    try:
        at = _section(data, _after_sids(data), 4)[1]
        ports, end_of_ports = _section(data, at, 8)
        memory, end = _section(data, end_of_ports, 16)
    except struct.error as error:
        raise ValueError("the file stops early") from error
    return b"".join((
        data[:at + 4], *sorted(ports, key=lambda entry: struct.unpack_from("<I", entry)),
        data[end_of_ports:end_of_ports + 4],
        *sorted(memory, key=lambda entry: struct.unpack_from("<Q", entry)), data[end:],
    ))


def _after_sids(data: bytes) -> int:
    found = set()
    for count in _SIDS:
        start = struct.pack("<II", count, 1)
        at = data.find(start)
        while at >= 0:
            try:
                entries, end = _section(data, at, 4)
            except (ValueError, struct.error):
                entries, end = [], 0
            numbers = [struct.unpack_from("<I", entry)[0] for entry in entries]
            if numbers == [*range(1, count + 1)]:
                found.add(end)
            at = data.find(start, at + 1)
    if len(found) != 1:
        raise ValueError("the contexts of the initial SIDs cannot be found")
    return found.pop()


def _section(data: bytes, at: int, key: int) -> tuple[list[bytes], int]:
    """The entries of a section (each a key of ``key`` bytes and a context), and its end."""
    (count,) = struct.unpack_from("<I", data, at)
    if count > len(data):
        raise ValueError("no section")
    at += 4
    entries = []
    for _ in range(count):
        end = _context(data, at + key)
        entries.append(data[at:end])
        at = end
    return entries, at


def _context(data: bytes, at: int) -> int:
    """The end of a context: user, role, type, number of levels, sensitivities, categories."""
    user, role, type_, levels = struct.unpack_from("<4I", data, at)
    if levels not in (1, 2) or not 0 < user < 65536 or not 0 < role < 65536 or not type_:
        raise ValueError("no context")
    at += 16 + 4 * levels
    for _ in range(levels):
        unit, _, count = struct.unpack_from("<3I", data, at)
        if unit != 64 or count > 4096:
            raise ValueError("no set of categories")
        at += 12 + 12 * count
    if at > len(data):
        raise ValueError("no context")
    return at
