"""Linux for the lab: the ELF kernel out of Debian's bzImage, and modules in loading order.

Under emulation the kernel's self-extraction takes seconds at every boot of
every guest, so it is done once here.
"""

from __future__ import annotations

import lzma
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from shype.base.errors import Unavailable

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def unpack(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage with an xz payload.

    The payload's place is in the setup header (Linux, Documentation/x86/boot:
    setup_sects 0x1f1, "HdrS" 0x202, payload_offset 0x248, payload_length
    0x24c); its last four bytes are the unpacked length, after the xz stream.
    Raises Unavailable (``lab.kernel-format``) for anything else.
    """
    if bzimage[0x202:0x206] != b"HdrS":
        raise Unavailable("lab.kernel-format", "the kernel image is not a bzImage")
    setup = ((bzimage[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    payload = bzimage[setup + offset : setup + offset + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        raise Unavailable("lab.kernel-format", "the kernel image is not compressed with xz")
    elf = lzma.LZMADecompressor().decompress(payload)
    if len(elf) != struct.unpack("<I", payload[-4:])[0] or elf[:5] != b"\x7fELF\x02":
        raise Unavailable("lab.kernel-format", "the kernel image's payload is damaged")
    return trim(elf)


def trim(elf: bytes) -> bytes:
    """The ELF64 kernel without what no loader needs: sections, and zeros that end a segment.

    A third of the file, which would be read and copied at each start of a guest.
    """
    out = bytearray(elf)
    table, = struct.unpack_from("<Q", out, 0x20)
    size, count = struct.unpack_from("<HH", out, 0x36)
    end = table + size * count
    for place in range(table, end, size):
        kind, = struct.unpack_from("<I", out, place)
        offset, = struct.unpack_from("<Q", out, place + 8)
        length, = struct.unpack_from("<Q", out, place + 32)
        if kind == 1:  # PT_LOAD; the loader clears memory from p_filesz up to p_memsz
            used = len(elf[offset : offset + length].rstrip(b"\0"))
            length = min(length, -(-used // 4096) * 4096)
            struct.pack_into("<Q", out, place + 32, length)
        end = max(end, offset + length)
    struct.pack_into("<Q", out, 0x28, 0)
    struct.pack_into("<HHH", out, 0x3A, 64, 0, 0)
    return bytes(out[:end])


def find_modules(tree: Path) -> dict[str, Path]:
    """All modules below ``tree`` by name, with ``-`` written as ``_``."""
    return {path.stem.replace("-", "_"): path for path in tree.rglob("*.ko")}


def loading_order(wanted: Iterable[str], modules: Mapping[str, Path]) -> tuple[Path, ...]:
    """``wanted`` and all they depend on, each after its dependencies.

    Raises Unavailable (``lab.kernel-module``) if the kernel lacks one.
    """
    order: dict[Path, None] = {}

    def add(name: str) -> None:
        path = modules.get(name.replace("-", "_"))
        if path is None:
            raise Unavailable("lab.kernel-module", f"the kernel package has no module {name}")
        if path in order:
            return
        found = _DEPENDS.search(path.read_bytes())
        for other in found.group(1).decode().split(",") if found else ():
            if other:
                add(other)
        order[path] = None

    for name in wanted:
        add(name)
    return tuple(order)
