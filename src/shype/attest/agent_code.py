"""The digest of shype's own code, as a host measures it and a verifier expects it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from shype.base import canonical

#: The installed package.
PACKAGE = Path(__file__).parents[1]


def digest(package: Path = PACKAGE) -> str:
    """SHA-256 of canonical JSON: each file's path in the package and its SHA-256; 64 hex digits.

    Byte code that Python keeps is left out: it is made from these files.
    """
    return canonical.digest(canonical.dumps({
        str(path.relative_to(package)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(package)}))


def fingerprint(package: Path = PACKAGE) -> str:
    """Changes when a file is replaced or written, without reading any: to see whether to look."""
    seen = []
    for path in _files(package):
        about = path.stat()
        seen.append([str(path.relative_to(package)), about.st_size, about.st_mtime_ns,
                     about.st_ctime_ns, about.st_ino])
    return canonical.digest(canonical.dumps(seen))


def _files(package: Path) -> Iterator[Path]:
    return (path for path in sorted(package.rglob("*"))
            if path.suffix != ".pyc" and path.is_file())
