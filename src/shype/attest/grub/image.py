"""GRUB as an EFI program: its digest as firmware measures it, and what is built into it.

PE/COFF and Authenticode: Microsoft, "Windows Authenticode Portable Executable Signature Format".
GRUB's modules in it, as grub-mkimage lays them out (observed with 2.06): a header ``mimg`` in the
section ``mods``, then objects of a type and a size; in each module's ELF file the sections
``.modname`` and ``.moddeps``.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from shype.base.errors import BadInput

_ELF, _CONFIG = 0, 2


@dataclass(frozen=True, slots=True)
class Image:
    """``digest``: what firmware extends into PCR 4. ``config``: the script built in, run first."""

    digest: bytes
    modules: frozenset[str]
    config: str


def read(data: bytes, name: str) -> Image:
    """Read an EFI program. Raises BadInput (``reference.efi-program``)."""
    try:
        digest, sections = _authenticode(data)
        objects = [each for section in sections for each in _objects(section)]
        modules = frozenset(module(body)[0] for kind, body in objects if kind == _ELF)
    except (struct.error, IndexError, ValueError) as error:
        raise BadInput("reference.efi-program", f"{name} is no EFI program: {error}",
                       "give GRUB as the firmware starts it (EFI/BOOT/BOOTX64.EFI, "
                       "EFI/debian/grubx64.efi)") from error
    config = b"".join(body.rstrip(b"\0") for kind, body in objects if kind == _CONFIG)
    return Image(digest, modules, config.decode("utf-8", "surrogateescape"))


def _authenticode(data: bytes) -> tuple[bytes, list[bytes]]:
    """SHA-256 of the program without check sum and signatures; the sections named ``mods``."""
    at, = struct.unpack_from("<I", data, 0x3c)
    if data[:2] != b"MZ" or data[at:at + 4] != b"PE\0\0":
        raise ValueError("the PE header is missing")
    count, optional_size = struct.unpack_from("<H12xH", data, at + 6)
    optional = at + 24
    if struct.unpack_from("<H", data, optional)[0] != 0x20b:
        raise ValueError("it is not for 64-bit machines")
    header_size, = struct.unpack_from("<I", data, optional + 60)
    check_sum, directory = optional + 64, optional + 112 + 4 * 8
    certificates = 0
    hashed = hashlib.sha256(data[:check_sum])
    if struct.unpack_from("<I", data, optional + 108)[0] > 4:
        certificates, = struct.unpack_from("<I", data, directory + 4)
        hashed.update(data[check_sum + 4:directory] + data[directory + 8:header_size])
    else:
        hashed.update(data[check_sum + 4:header_size])
    table = [struct.unpack_from("<8s8xII", data, optional + optional_size + 40 * number)
             for number in range(count)]
    end = header_size
    for _, size, offset in sorted(table, key=lambda row: row[2]):
        if size:
            if offset + size > len(data):
                raise ValueError("it is cut off")
            hashed.update(data[offset:offset + size])
            end += size
    hashed.update(data[end:len(data) - certificates])
    found = [data[offset:offset + size] for name, size, offset in table
             if name.rstrip(b"\0") == b"mods"]
    return hashed.digest(), found


def _objects(section: bytes) -> list[tuple[int, bytes]]:
    magic, offset, size = struct.unpack_from("<4s4xQQ", section)
    if magic != b"mimg":
        raise ValueError("it is not GRUB's: its modules are missing")
    found = []
    while offset < size:
        kind, length = struct.unpack_from("<II", section, offset)
        if length < 8 or offset + length > len(section):
            raise ValueError("an object of it has an impossible size")
        found.append((kind, section[offset + 8:offset + length]))
        offset += length
    return found


def module(elf: bytes) -> tuple[str, tuple[str, ...]]:
    """A module's name, and the modules that it needs. Raises ValueError, struct.error."""
    if elf[:5] != b"\x7fELF\2":
        raise ValueError("a module is no 64-bit ELF file")
    table, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3a)
    rows = [struct.unpack_from("<I20xQQ", elf, table + size * number) for number in range(count)]
    strings = rows[names]
    found = {}
    for start, offset, length in rows:
        end = elf.index(b"\0", strings[1] + start)
        found[elf[strings[1] + start:end]] = elf[offset:offset + length]
    name = found[b".modname"].rstrip(b"\0").decode() if b".modname" in found else ""
    needed = found.get(b".moddeps", b"").split(b"\0")
    return name, tuple(word.decode() for word in needed if word)
