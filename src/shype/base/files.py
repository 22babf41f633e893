"""Durable files: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file, at most ``limit`` + 1 bytes (one more: it is too large).

    Never waits: a FIFO or a device raises OSError (EINVAL) as everything else does that
    cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(limit + 1)


def write_atomic(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace ``path`` by ``data``; after a crash or a full disk the old content is still there.

    Raises OSError (for example ENOSPC); then ``path`` is unchanged and no
    temporary file is left. A symbolic link stays, and what it leads to is
    replaced. What is no file (a device, a FIFO, /dev/stdout) is written to and
    never replaced: root could. Not ``durable``: whole or not at all for other processes, but
    it need not be on the disk yet, for what means nothing after a reboot.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb", buffering=0) as sink:
            sink.write(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: importing it costs dom0's short commands more than all their file work.
    name = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        name.chmod(mode)
        name.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            name.unlink()
        raise
    if not durable:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
