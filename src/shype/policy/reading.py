"""From a path to text, or to the one finding that says why not. Never hangs, never guesses."""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path

from shype.base.files import read_regular
from shype.policy.findings import Id, error
from shype.policy.source import Finding, Span

#: Largest policy file, in bytes; one of 5,000 labels has about 300,000.
SIZE_LIMIT = 8 * 1024 * 1024

#: What YAML 1.1 does not allow in a stream, found here to say so with a position.
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
#: How the files of a compiled bundle begin: signed, its payload, and the two that it unpacks to.
_COMPILED = (b'{"payload":', b'{"artefacts":', b'{"assignments":', b'{"booleans":')
_SAVE_AS_UTF8 = "save the file as UTF-8 without a byte order mark"


def shown(path: Path) -> str:
    """``path`` as findings show it: as given, bytes that are not UTF-8 escaped."""
    return os.fspath(path).encode(errors="backslashreplace").decode()


def read(path: Path) -> str | Finding:
    """The text of the policy file ``path``, or why it cannot be read as one.

    Only regular files up to `SIZE_LIMIT` bytes are opened for reading, so that
    a FIFO, a terminal or a huge file costs nothing.
    """
    top = Span(shown(path), 1, 1)
    try:
        data = _bytes(path, top)
    except FileNotFoundError:
        return error(
            Id.FILE_MISSING, top, "the file does not exist",
            "check the path; examples/banks.yaml is a policy to start from",
        )
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        return error(
            Id.FILE_UNREADABLE, top, f"the file cannot be read: {reason}",
            "make the file readable for the user that runs shype",
        )
    return data if isinstance(data, Finding) else decode(data, top.file)


def _bytes(path: Path, top: Span) -> bytes | Finding:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        if (path / "manifest.json").exists():
            return _compiled(top)
        return error(
            Id.FILE_DIRECTORY, top, "this is a directory, not a policy file",
            "name the policy file inside it",
        )
    if not stat.S_ISREG(status.st_mode):
        return error(
            Id.FILE_NOT_REGULAR, top, "this is not a regular file (a pipe, a socket or a device)",
            "save the policy to a file and name that",
        )
    if read_regular(path, max(map(len, _COMPILED))).startswith(_COMPILED):
        return _compiled(top)
    if status.st_size > SIZE_LIMIT:
        return _too_large(top, status.st_size)
    data = read_regular(path, SIZE_LIMIT)
    return _too_large(top, len(data)) if len(data) > SIZE_LIMIT else data


def _compiled(top: Span) -> Finding:
    return error(
        Id.FILE_BUNDLE, top, "this is a compiled bundle, not a policy file",
        f"use `shype bundle show {top.file}`, or name the policy file that it was built from",
    )


def _too_large(top: Span, size: int) -> Finding:
    return error(
        Id.FILE_TOO_LARGE, top,
        f"the file has {size} bytes or more; a policy has at most {SIZE_LIMIT}",
        "check that this is a policy file",
    )


def decode(data: bytes, file: str) -> str | Finding:
    """The text of ``data``, which must be UTF-8 without byte order mark and control characters."""
    top = Span(file, 1, 1)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or data[:2].count(0) == 1:
        return error(Id.FILE_ENCODING, top, "the file is UTF-16 (or UTF-32), not UTF-8",
                     _SAVE_AS_UTF8)
    if data.startswith(codecs.BOM_UTF8):
        return error(Id.FILE_BOM, top, "the file starts with a byte order mark", _SAVE_AS_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as problem:
        return error(
            Id.FILE_ENCODING, position(data[: problem.start].decode(), file),
            f"the byte 0x{data[problem.start]:02x} is not valid UTF-8 here", _SAVE_AS_UTF8,
        )
    if found := _CONTROL.search(text):
        return error(
            Id.FILE_CONTROL, position(text[: found.start()], file),
            f"the control character U+{ord(found[0]):04X} cannot stand in a policy",
            "delete it; if there are many, this is not a text file",
        )
    return text


def position(before: str, file: str) -> Span:
    """The span of what follows the text ``before`` in ``file``."""
    line, start = 1, 0
    for found in _BREAK.finditer(before):
        line, start = line + 1, found.end()
    return Span(file, line, len(before) - start + 1)
