"""GRUB's environment block: which policy is on trial, which is good (GRUB manual, "load_env").

1,024 bytes; GRUB overwrites them in place and never changes the size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic

SIZE = 1024
SECTOR = 512
_HEAD = b"# GRUB Environment Block\n"
#: Of the names and values that are used here none needs GRUB's escapes.
_LINE = re.compile(rb"([a-z_]+)=([0-9a-f]*)")

#: The policy that is to be booted once.
TRIAL = "shype_trial"
#: The last policy with which the host was healthy.
GOOD = "shype_good"
#: The last trial that GRUB began; empty once it was found healthy.
TRIED = "shype_tried"


def dumps(values: Mapping[str, str]) -> bytes:
    """The block with ``values`` (names of small letters, values of hexadecimal digits)."""
    lines = [f"{name}={values[name]}".encode() for name in sorted(values)]
    assert all(_LINE.fullmatch(line) for line in lines)
    text = _HEAD + b"".join(line + b"\n" for line in lines)
    assert len(text) <= SIZE
    return text + b"#" * (SIZE - len(text))


def loads(data: bytes, path: Path) -> dict[str, str]:
    """The values of a block. Raises BadInput (``boot.env``)."""
    if len(data) != SIZE or not data.startswith(_HEAD):
        raise _bad(path, "it is no environment block of GRUB's")
    values = {}
    for line in data[len(_HEAD):].split(b"\n"):
        if line and line.strip(b"#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise _bad(path, "a line of it is not one of shype's")
            values[match[1].decode()] = match[2].decode()
    return values


def read(path: Path) -> dict[str, str]:
    """The values in ``path``; none if there is no file. Raises BadInput (``boot.env``), OSError."""
    try:
        return loads(read_regular(path, SIZE), path)
    except FileNotFoundError:
        return {}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Replace the block at ``path``: after a crash the old or the new one is there.

    In place, as GRUB does: GRUB reads no journal, and would see the file as it was before a
    rename. All values are in the first sector, which a disk writes whole or not at all.
    """
    data = dumps(values)
    assert len(data.rstrip(b"#")) <= SECTOR
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        write_atomic(path, data, 0o600)
        return
    try:
        if os.fstat(handle).st_size == SIZE:
            os.pwrite(handle, data, 0)
            os.fsync(handle)
            return
    finally:
        os.close(handle)
    write_atomic(path, data, 0o600)


def _bad(path: Path, why: str) -> BadInput:
    return BadInput("boot.env", f"{path} does not say which policy to boot: {why}",
                    "shype host install --bundle FILE writes it anew")
