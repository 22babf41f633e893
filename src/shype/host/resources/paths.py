"""Who could exchange what a path leads to, between a look at it and its use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LINKS = 40  # as the kernel: more is a loop


def exchangeable(path: str) -> str | None:
    """None if only root can; else a phrase that says who can, and where.

    Every directory on the way, those behind symbolic links too, must belong to root and be
    writable for nobody else; in a sticky directory the next step itself must be root's.  What is
    not there can be made by root only, in such a directory.
    """
    todo = [part for part in path.split("/") if part]
    here, links = "/", 0
    while True:
        status = os.lstat(here)
        if not todo:
            return None
        weak = _weak(here, status)
        if weak is not None:
            return weak
        part = todo.pop(0)
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - plain text: links are resolved already
            continue
        if part == ".":
            continue
        there = os.path.join(here, part)  # noqa: PTH118
        try:
            found = os.lstat(there)
        except FileNotFoundError:
            return _writable(here, status)  # else only root can make it
        except NotADirectoryError:
            return f"{here} is no directory"
        if status.st_mode & stat.S_ISVTX and found.st_uid != 0:
            return f"{there} belongs to the user {found.st_uid}"
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS:
                return f"{path} has too many symbolic links"
            target = str(Path(there).readlink())
            todo = [part for part in target.split("/") if part] + todo
            here = "/" if target.startswith("/") else here
            continue
        here = there


def _weak(directory: str, status: os.stat_result) -> str | None:
    if status.st_uid != 0:
        return f"{directory} belongs to the user {status.st_uid}"
    return None if status.st_mode & stat.S_ISVTX else _writable(directory, status)


def _writable(path: str, status: os.stat_result) -> str | None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} may be written by others than root"
    return None


def rewritable(path: str) -> str | None:
    """None if only root can change what is in the file; else a phrase that says who can."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        return None  # a device: whoever may write it is as good as root
    if status.st_uid != 0:
        return f"{path} belongs to the user {status.st_uid}"
    return _writable(path, status)
