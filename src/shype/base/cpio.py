"""Initial RAM disks: cpio archives in the "newc" format (Linux, buffer-format documentation).

Written here rather than by cpio(1): byte for byte the same for the same
content, and device nodes need no root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``mode`` with the file type bits; ``device`` (major, minor) for nodes."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    """A directory, 0755."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def console() -> Entry:
    """/dev/console, without which the kernel gives init no standard streams."""
    return Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive, not compressed: under emulation unpacking costs more than reading."""
    parts = [_record(number, entry) for number, entry in enumerate(entries, 1)]
    parts.append(_record(0, Entry("TRAILER!!!", 0)))
    return _padded(b"".join(parts), 512)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0,
    )
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + name, 4) + _padded(entry.data, 4)


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)
