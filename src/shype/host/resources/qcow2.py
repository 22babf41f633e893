"""The files behind a qcow2 image, read from its header alone.

QEMU: docs/interop/qcow2.txt.  Header (big-endian): magic ``QFI\\xfb``, version, offset and size
of the backing file's name, ...; version 3 adds feature bits and a header length; extensions
follow it.  Nothing here opens what a header names.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.host.resources.identity import Thing, look

MAGIC = b"QFI\xfb"
#: Bytes of the image that are looked at: the header lies in the first cluster (at most 2 MiB).
_READ = 2 * 1024 * 1024
_NAME_LIMIT = 1023
_FEATURE_DATA_FILE = 1 << 2
_END, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441
#: Images on one another.
DEPTH = 32
#: Formats of what lies behind that are followed.
FORMATS = ("raw", "qcow2")


@dataclass(frozen=True, slots=True)
class Header:
    """What an image names: its backing file and its format, and an external data file."""

    backing: str | None
    backing_format: str | None
    data_file: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a chain, and the path by which QEMU finds it.

    ``top`` is true for the image itself and its data file: these are what a VM writes.
    """

    path: str
    thing: Thing
    format: str
    top: bool


def header(data: bytes, where: str) -> Header:
    """Read the header at the beginning of an image. Raises BadInput ``disk.image``."""
    try:
        return _header(data)
    except (struct.error, ValueError) as error:
        raise BadInput(
            "disk.image", f"{where} is no qcow2 image that can be judged: {error}",
            "look at it with `qemu-img info`; a raw image is format=raw in the configuration",
        ) from error


def _header(data: bytes) -> Header:
    if data[:4] != MAGIC:
        raise ValueError("it does not begin as one")
    version, offset, size = struct.unpack_from(">IQI", data, 4)
    if version not in (2, 3):
        raise ValueError(f"version {version}")
    features, length = 0, 72
    if version == 3:
        features, = struct.unpack_from(">Q", data, 72)
        length, = struct.unpack_from(">I", data, 100)
        if length < 104:
            raise ValueError("its header is too short")
    backing = None
    if offset:
        if not 0 < size <= _NAME_LIMIT or offset + size > len(data):
            raise ValueError("the name of its backing file lies outside the header")
        backing = data[offset : offset + size].decode()
    backing_format, data_file = _extensions(data, length)
    if features & _FEATURE_DATA_FILE and data_file is None:
        raise ValueError("it has an external data file and does not name it")
    return Header(backing, backing_format, data_file if features & _FEATURE_DATA_FILE else None)


def _extensions(data: bytes, at: int) -> tuple[str | None, str | None]:
    texts: dict[int, str] = {}
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(">II", data, at)
        if kind == _END:
            break
        if at + 8 + size > len(data):
            raise ValueError("an extension of its header is cut off")
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            if kind in texts:
                raise ValueError("an extension of its header stands twice")
            texts[kind] = data[at + 8 : at + 8 + size].decode()
        at += 8 + (size + 7) // 8 * 8
    return texts.get(_BACKING_FORMAT), texts.get(_DATA_FILE)


def chain(path: str) -> tuple[Member, ...]:
    """All files of the image at ``path``, itself first.

    A backing file without a format in the header would be probed by QEMU, and a guest that
    wrote it decides what it looks like: that is an error.  So is what is no path
    (``json:``, ``nbd:``).  Raises BadInput ``disk.image`` and what `look` raises.
    """
    members: list[Member] = []
    form, here, top = "qcow2", path, True
    while True:
        thing = look(here)
        if any(member.thing.identity == thing.identity for member in members):
            raise _image(here, "its chain of backing files leads back to itself")
        if len(members) >= DEPTH:
            raise _image(path, f"more than {DEPTH} images lie behind one another")
        members.append(Member(here, thing, form, top))
        if form == "raw":
            return tuple(members)
        found = header(_first(thing, here), here)
        if found.data_file is not None:
            data = _beside(here, found.data_file)
            members.append(Member(data, look(data), "raw", top))
        if found.backing is None:
            return tuple(members)
        if found.backing_format not in FORMATS:
            raise _image(
                here, f"the format of its backing file is {found.backing_format or 'not stated'}"
            )
        form, here, top = found.backing_format, _beside(here, found.backing), False


def _beside(image: str, name: str) -> str:
    """A name in a header, as QEMU reads it: relative to the image's directory."""
    head = name.split("/", 1)[0]
    if name.startswith("file:"):
        name = name.removeprefix("file:")
    elif ":" in head:
        raise _image(image, f"it leads to {name[:60]!r}, which is no path")
    return name if name.startswith("/") else os.path.join(os.path.dirname(image), name)  # noqa: PTH118, PTH120


def _first(thing: Thing, path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _image(path, error.strerror or "it cannot be read") from error
    with os.fdopen(handle, "rb") as file:
        found = look(f"/proc/self/fd/{handle}")
        if found.identity != thing.identity:
            raise _image(path, "it was exchanged while it was looked at")
        return file.read(_READ)


def _image(path: str, why: str) -> BadInput:
    return BadInput(
        "disk.image", f"{path} cannot be judged: {why}",
        "see `qemu-img info --backing-chain`; `qemu-img rebase -u -F raw|qcow2` states a format",
    )
