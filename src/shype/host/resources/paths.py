"""Who could exchange what a path leads to, between a look at it and its use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LINKS = 40  # as the kernel: more is a loop


def exchangeable(path: str) -> str | None:
    """None if only root can; else a phrase that says who can, and where.

    Every directory on the way, those behind symbolic links too, must belong to root and be
    writable for nobody else; in a sticky directory the next step itself must be root's.
    """
    todo = [part for part in path.split("/") if part]
    here, links = "/", 0
    while True:
        status = os.lstat(here)
        if not todo:
            return None if status.st_uid == 0 else f"{here} belongs to the user {status.st_uid}"
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
        found = os.lstat(there)
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
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        return f"{directory} may be written by others than root"
    return None
