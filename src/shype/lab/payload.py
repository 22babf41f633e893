"""The payload disk, whose files dom0's agent writes to its root directory.

It carries what changes between runs: shype itself, the guests' RAM disk and the
caller's files, of which the compiled policy is one.  Since dom0 reads it only when told
to, one machine snapshot serves every payload.

Format: ``SHYPELAB``, sizes of index and data (two little-endian 64-bit
numbers), the index (JSON: ``[path, mode, size]`` per file), the files' bytes.
Not tar, because tar's many small reads take ten seconds in an emulated dom0.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

from shype.base.errors import BadInput
from shype.lab import recipe

MAGIC = b"SHYPELAB"
#: dom0's Python; byte code is only shipped if this Python makes the same kind.
DOM0_PYTHON = (3, 11)
#: Parts of shype that dom0 has no use for (it has neither compiler nor QEMU).
LEFT_OUT = ("compile", "lab/guest/*.[ch]", "lab/guest/init", "lab/dom0/*.sh",
            "lab/xenstored/*")
WRAPPER = b"""#!/bin/sh
export PYTHONPATH=/opt/shype
exec python3 -m shype "$@"
"""


def write(
    path: Path, *, guest_initrd: Path, files: Mapping[str, bytes | str],
    present: bytes = b"",
) -> None:
    """Write the payload disk; ``files`` are by absolute path in dom0.

    The probe's binary, for loops in dom0, lies beside ``guest_initrd``. ``present``: the `digest`
    of what dom0 has, unchanged, of shype and its guests; it is left out if it is the same.

    Raises BadInput (``lab.payload-too-big``) beyond `recipe.PAYLOAD_MIB`.
    """
    own = _own(guest_initrd)
    made = _digest(own)
    entries = [("/opt/shype/.digest", 0o644, made), *(own if made != present else ())]
    for place, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        if not place.startswith("/"):
            raise BadInput("lab.bad-path", f"{place!r} is not an absolute path in dom0")
        entries.append((place, 0o755 if data.startswith(b"#!") else 0o644, data))
    index = json.dumps([(name, mode, len(data)) for name, mode, data in entries]).encode()
    size = sum(len(data) for _, _, data in entries)
    with path.open("wb") as disk:
        disk.write(MAGIC + struct.pack("<QQ", len(index), size) + index)
        for _, _, data in entries:
            disk.write(data)
    if path.stat().st_size > recipe.PAYLOAD_MIB << 20:
        size = path.stat().st_size >> 20
        raise BadInput("lab.payload-too-big", f"files for dom0 take {size} MiB, "
                       f"{recipe.PAYLOAD_MIB} MiB are possible", "use `put` once the lab is up")
    with path.open("ab") as disk:
        disk.truncate(recipe.PAYLOAD_MIB << 20)


def digest(guest_initrd: Path) -> bytes:
    """What stands for all that a payload disk has of shype and its guests."""
    return _digest(_own(guest_initrd))


def _own(guest_initrd: Path) -> list[tuple[str, int, bytes]]:
    return [
        *((f"/opt/shype/{name}", 0o644, data) for name, data in package()),
        ("/usr/local/bin/shype", 0o755, WRAPPER),
        ("/guest/initrd", 0o644, guest_initrd.read_bytes()),
        ("/usr/local/bin/probe", 0o755, guest_initrd.with_name("probe").read_bytes()),
    ]


def package() -> Iterator[tuple[str, bytes]]:
    """shype's own files as dom0 gets them, with byte code so that dom0 need not compile."""
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = path.relative_to(root.parent)
        if _left_out(path.relative_to(root)):
            continue
        data = path.read_bytes()
        yield str(name), data
        if path.suffix == ".py" and sys.version_info[:2] == DOM0_PYTHON:
            cached = name.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"
            yield str(cached), _bytecode(data, f"/opt/shype/{name}")


def _digest(files: Sequence[tuple[str, int, bytes]]) -> bytes:
    """Of names and contents, so that dom0 can tell whether it has them already."""
    found = hashlib.sha256()
    for name, _, data in files:
        found.update(f"{name} {len(data)}\n".encode() + data)
    return found.hexdigest().encode()


def _left_out(path: Path) -> bool:
    return any(path.match(pattern) or path.parts[0] == pattern for pattern in LEFT_OUT)


@cache  # half a second for all of shype, for each of many labs
def _bytecode(source: bytes, name: str) -> bytes:
    """A hash-based, unchecked pyc (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True)
    return MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + marshal.dumps(code)
