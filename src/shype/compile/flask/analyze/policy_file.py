"""Any FLASK policy for Xen: a binary, checkpolicy's source, CIL, or a bundle of shype."""

from __future__ import annotations

import tempfile
from pathlib import Path

from shype.base import child
from shype.base.errors import BadInput, Internal
from shype.compile.flask import reader
from shype.compile.flask.reader import Binary
from shype.policy import signed

#: What a binary policy begins with (POLICYDB_MAGIC, little endian).
_MAGIC = b"\x8c\xff\x7c\xf9"
#: The newest version of binary policies that Xen reads.
_VERSION = "30"


def read(path: Path) -> Binary:
    """The policy at ``path``; source is compiled first.

    Raises `BadInput` (``analyze.unreadable``, ``analyze.other-platform``,
    ``analyze.source``, and ``bundle.`` errors), `Unavailable` (``tool.missing``,
    ``validate.no-reader``).
    """
    with tempfile.TemporaryDirectory(prefix="shype-analyze-") as folder:
        found = _binary(path, Path(folder))
        try:
            binary = reader.read(found)
        except Internal as error:
            raise BadInput(
                "analyze.unreadable", f"{path} cannot be read as a policy: {error.message}",
                "give a binary policy for Xen, or its source (CIL, or one policy.conf)",
            ) from error
    if binary.platform != "xen":
        raise BadInput(
            "analyze.other-platform", f"{path} is a policy for {binary.platform}, not for Xen",
            "give a policy that was compiled for Xen (checkpolicy -t Xen, secilc -t xen)",
        )
    return binary


def _binary(path: Path, folder: Path) -> Path:
    """The file that SETools can read; whoever signed a bundle, a question is no danger."""
    if path.is_dir():
        return path / "policy.bin"
    if path.suffix == ".shype":
        _, contents = signed.opened(signed.read(path), path)
        (folder / "policy.bin").write_bytes(contents.files["policy.bin"])
        return folder / "policy.bin"
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise BadInput(
            "analyze.unreadable", f"cannot read {path}: {error.strerror or error}",
            "name a binary policy for Xen, its source, or a bundle",
        ) from error
    return path if head.startswith(_MAGIC) else _compiled(path, head, folder)


def _compiled(path: Path, head: bytes, folder: Path) -> Path:
    binary = folder / "policy"
    if _is_cil(head):
        commands = [["secilc", "-t", "xen", "-c", _VERSION, "-f", "/dev/null"]]
    else:  # checkpolicy must be told whether the source has levels; the wrong way is a syntax error
        command = ["checkpolicy", "-t", "xen", "-c", _VERSION]
        commands = [[*command, "-M"], command]
    for command in commands:
        done = child.run([*command, "-o", binary, path.resolve()], check=False, timeout=600)
        if done.code == 0 and binary.exists():
            return binary
    said = (done.err.strip() or done.out.strip() or "nothing")[-2000:]
    raise BadInput(
        "analyze.source", f"{command[0]} cannot compile {path}; it said: {said}",
        "a source must be whole: one CIL file, or what m4 makes of Xen's modules (policy.conf)",
    )


def _is_cil(head: bytes) -> bool:
    """Whether the first thing that is no comment is an opening parenthesis."""
    for line in head.splitlines():
        text = line.strip()
        if text and not text.startswith(b";"):
            return text.startswith(b"(")
    return False
