"""What a path leads to: the thing itself, whatever names it has.

A block device is its device number, a file its file system and inode.  Symbolic links, hard
links, bind mounts and renames change names, never these.  A loop device is the file behind it;
several block devices may be paths to one disk (`twins`).

Linux: Documentation/ABI/testing/sysfs-block, include/uapi/linux/loop.h, include/linux/kdev_t.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput

#: LOOP_GET_STATUS64, and the beginning of struct loop_info64: lo_device, lo_inode, lo_rdev.
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO_BYTES = 232
_LOOP_MAJOR = 7
#: FS_IOC_GETVERSION: a file system gives every reuse of an inode another generation.
_FS_IOC_GETVERSION = 0x80087601
#: Layers of devices on one another: more is a mistake.
_DEPTH = 16
#: Vendor names of disks: many of one kind have the same one, if they tell no serial number.
_SHARED_NAMES = "t10."
SYS = Path("/sys")


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A thing that holds data: ``kind`` is ``block``, ``file`` or ``directory``.

    ``device`` is (major, minor) of a block device, or of the file system of a file;
    ``inode`` is 0 for a block device.
    """

    kind: str
    device: tuple[int, int]
    inode: int = 0

    def __str__(self) -> str:
        major, minor = self.device
        text = f"{self.kind} {major}:{minor}"
        return text if self.kind == "block" else f"{text} inode {self.inode}"


@dataclass(frozen=True, slots=True)
class Thing:
    """What a path leads to, and its real path (without links) at that moment."""

    identity: Identity
    path: str


def look(path: str) -> Thing:
    """What ``path`` leads to now.

    Raises BadInput: ``disk.path`` unless it is absolute, ``disk.missing`` if nothing is there,
    ``disk.kind`` for what holds no data (a FIFO, a socket, a character device).
    """
    if not path.startswith("/") or not path.isprintable():
        raise BadInput(
            "disk.path", f"{path!r} is not an absolute path",
            "name the file or device by its whole path, without a script or protocol",
        )
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(
            "disk.missing", f"{path} cannot be looked at: {error.strerror}",
            "the file or device must be there before its VM starts",
        ) from error
    try:
        # Both are asked of the descriptor: what the name means meanwhile does not matter.
        found = of_status(os.fstat(handle))
        real = str(Path(f"/proc/self/fd/{handle}").readlink())
    finally:
        os.close(handle)
    if found is None:
        raise BadInput("disk.kind", f"{path} is neither a file nor a block device",
                       "a disk is a file or a block device")
    return Thing(found, real)


def of_status(status: os.stat_result) -> Identity | None:
    """The identity in the answer of stat(2), None for what holds no data."""
    if stat.S_ISBLK(status.st_mode):
        return block(status.st_rdev)
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"))
    for test, kind in kinds:
        if test(status.st_mode):
            return Identity(kind, (os.major(status.st_dev), os.minor(status.st_dev)),
                            status.st_ino)
    return None


def block(number: int) -> Identity:
    """A block device by its number, as the kernel encodes it."""
    return Identity("block", (os.major(number), os.minor(number)))


def behind(identity: Identity, sys: Path = SYS) -> Identity:
    """The file behind a loop device, at whatever depth; any other thing itself."""
    for _ in range(_DEPTH):
        if identity.kind != "block" or identity.device[0] != _LOOP_MAJOR:
            return identity
        found = _loop(identity, sys)
        if found is None:
            return identity
        identity = found
    raise BadInput("disk.kind", f"loop devices lie more than {_DEPTH} deep on one another",
                   "name the file itself")


def bottom(thing: Thing, sys: Path = SYS) -> Thing:
    """The file behind a loop device, by the path that it has now; any other thing itself."""
    under = behind(thing.identity, sys)
    if under == thing.identity:
        return thing
    directory = _directory(thing.identity, sys)
    path = _line(directory / "loop" / "backing_file") if directory is not None else None
    return Thing(under, path or thing.path)


def _loop(identity: Identity, sys: Path) -> Identity | None:
    """What a loop device is bound to, by the kernel's word; None if it is free."""
    directory = _directory(identity, sys)
    if directory is None or not (directory / "loop").exists():
        return None
    try:
        handle = os.open(f"/dev/{directory.name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput("disk.missing", f"/dev/{directory.name} cannot be asked what is behind it: "
                       f"{error.strerror}", "run the command as root") from error
    try:
        if block(os.fstat(handle).st_rdev) != identity:
            raise BadInput("disk.kind", f"/dev/{directory.name} is another device than {identity}",
                           "mend the device nodes in /dev")
        answer = bytearray(_LOOP_INFO_BYTES)
        fcntl.ioctl(handle, _LOOP_GET_STATUS64, answer)
    except OSError:
        return None  # unbound meanwhile
    finally:
        os.close(handle)
    device, inode, itself = struct.unpack_from("=QQQ", answer)
    if itself:  # bound to a block device
        return block(itself)
    return Identity("file", (os.major(device), os.minor(device)), inode)


def twins(identity: Identity, sys: Path = SYS) -> tuple[Identity, ...]:
    """The other block devices that are the same disk (partition): further paths to one LUN.

    iSCSI, Fibre Channel and SAS show a disk once for each path.  What is the same is the name
    that the disk itself tells (SPC-4, VPD page 0x83; NVMe: namespace identifiers).
    """
    directory = _directory(identity, sys)
    if directory is None:
        return ()
    part = _word(directory / "partition")
    disk = directory if part is None else directory.parent
    name = _unit(disk)
    if name is None:
        return ()
    found: list[Identity] = []
    for other in sorted((sys / "block").iterdir()):
        if _unit(other) != name:
            continue
        with contextlib.suppress(OSError):  # it has gone meanwhile
            for place in (other,) if part is None else sorted(other.iterdir()):
                if _word(place / "partition") == part:
                    found += _number(place)
    return tuple(one for one in found if one != identity)


def selves(identity: Identity) -> tuple[Identity, ...]:
    """A thing as itself, as what is behind it, and as the other paths to either."""
    own = dict.fromkeys((identity, behind(identity)))
    return tuple(dict.fromkeys((*own, *(twin for one in own for twin in twins(one)))))


def _unit(disk: Path) -> str | None:
    for place in ("device/wwid", "wwid"):
        word = _word(disk / place)
        if word and not word.startswith(_SHARED_NAMES):
            return word
    return None


def node_name(identity: Identity, sys: Path = SYS) -> str | None:
    """The kernel's own path for a block device: /dev/mapper/NAME, or /dev/NAME."""
    directory = _directory(identity, sys)
    if directory is None:
        return None
    with contextlib.suppress(OSError):
        return f"/dev/mapper/{(directory / 'dm' / 'name').read_text().strip()}"
    return f"/dev/{directory.name.replace('!', '/')}"


def below(identity: Identity, sys: Path = SYS) -> Iterator[Identity]:
    """The block devices that a block device is made of: its disk, or what it is mapped to."""
    directory = _directory(identity, sys)
    if directory is not None:
        if (directory / "partition").exists():
            yield from _number(directory.parent)
        yield from _linked(directory / "slaves")


def above(identity: Identity, sys: Path = SYS) -> Iterator[Identity]:
    """The block devices that are made of a block device: its partitions, what is mapped to it."""
    directory = _directory(identity, sys)
    if directory is not None:
        yield from _linked(directory / "holders")
        for child in sorted(directory.iterdir()):
            if (child / "partition").exists():
                yield from _number(child)


def closure(identity: Identity, *, up: bool, sys: Path = SYS) -> tuple[Identity, ...]:
    """All that is above (or below) a block device, at any depth, itself left out."""
    found: list[Identity] = []
    todo = [identity]
    while todo:
        for neighbour in (above if up else below)(todo.pop(), sys):
            if neighbour not in found and neighbour != identity:
                found.append(neighbour)
                todo.append(neighbour)
    return tuple(found)


def durable(thing: Thing, sys: Path = SYS) -> str:
    """A key of the thing that another boot of dom0 does not change, as far as Linux has one.

    A file: its file system's id, inode and generation.  A block device: its device mapper UUID,
    else its WWID or serial number with the partition, else its kernel name.  A loop device has the
    key of what is behind it.
    """
    thing = bottom(thing, sys)
    identity = thing.identity
    if identity.kind != "block":
        return f"file {_file_system(thing)} {identity.inode} {_generation(thing)}"
    directory = _directory(identity, sys)
    if directory is None:
        return f"block {identity}"
    disk = directory.parent if (directory / "partition").exists() else directory
    part = _word(directory / "partition") or ""
    for place in ("dm/uuid", "device/wwid", "wwid", "device/serial", "serial"):
        word = _word(disk / place)
        if word:
            return f"block {place.rpartition('/')[2]} {word} {part}".rstrip()
    return f"block name {directory.name}"


def _file_system(thing: Thing) -> str:
    with contextlib.suppress(OSError):
        found = os.statvfs(thing.path).f_fsid
        if found and of_status(Path(thing.path).stat()) == thing.identity:
            return f"{found:x}"
    return "{}:{}".format(*thing.identity.device)


def _generation(thing: Thing) -> int:
    with contextlib.suppress(OSError):
        handle = os.open(thing.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if of_status(os.fstat(handle)) == thing.identity:
                answer = bytearray(8)
                fcntl.ioctl(handle, _FS_IOC_GETVERSION, answer)
                return int(struct.unpack_from("=I", answer)[0])
        finally:
            os.close(handle)
    return 0


def _directory(identity: Identity, sys: Path) -> Path | None:
    """The kernel's directory of a block device, None if it has none (any more)."""
    if identity.kind != "block":
        return None
    with contextlib.suppress(OSError):
        return (sys / "dev" / "block" / "{}:{}".format(*identity.device)).resolve(strict=True)
    return None


def _number(directory: Path) -> Iterator[Identity]:
    text = _word(directory / "dev")
    if text:
        major, _, minor = text.partition(":")
        yield Identity("block", (int(major), int(minor)))


def _linked(directory: Path) -> Iterator[Identity]:
    with contextlib.suppress(OSError):
        for link in sorted(directory.iterdir()):
            yield from _number(link)


def _line(path: Path) -> str | None:
    try:
        return path.read_text(errors="surrogateescape").removesuffix("\n")
    except OSError:
        return None


def _word(path: Path) -> str | None:
    try:
        return " ".join(path.read_text(errors="replace").split())
    except OSError:
        return None
