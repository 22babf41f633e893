"""Trails to damage, and a verifier of another make to judge them by."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import re
from pathlib import Path

import pytest

from shype.host.audit import keyfile
from shype.host.audit.event import Event, Result
from shype.host.audit.record import Key
from shype.host.audit.trail import Trail
from shype.host.audit.verify import Report, verify


def event(number: int = 0, *, deferrable: bool = False, vm: str = "a-db") -> Event:
    """One like any other."""
    return Event(kind="launch", result=Result.DONE, vm=vm, details={"number": number},
                 deferrable=deferrable)


def trail(directory: Path, records: int = 0) -> Trail:
    """A trail with so many records (the one with which it begins included)."""
    made = Trail(directory / "state" / "audit")
    for number in range(1, records):
        made.record(event(number))
    return made


def key(made: Trail) -> tuple[str, Key]:
    """Its verification key, while the host has it."""
    return keyfile.read(made.places.key)


def checked(made: Trail, known: tuple[str, Key] | None = None) -> Report:
    """Verified with the key."""
    return verify([made.directory], known or key(made))


def kinds(made: Trail) -> list[str]:
    """The kinds of its records, in order, read plainly."""
    files = [path for _, _, path in made.places.closed()] + [made.path]
    return [json.loads(line)["kind"] for file in files for line in file.read_bytes().splitlines()
            if line.startswith(b"{") and line.endswith(b"}")]


def independent(data: bytes, secret: bytes) -> int:
    """How many records of one undamaged stream are chained and sealed, from the first on.

    Written from docs/reference/audit.md alone, with none of shype's code.
    """
    previous, good = "0" * 64, 0
    for line in data.split(b"\n")[:-1]:
        found = re.fullmatch(rb'(.*),"hash":"(\w{64})","mac":"(\w{64})"\}', line)
        if found is None:
            return good
        body = found[1] + b"}"
        if hashlib.sha256(body).hexdigest().encode() != found[2]:
            return good
        value = json.loads(body)
        if (value["seq"], value["prev"]) != (good + 1, previous):
            return good
        if hmac.new(secret, found[2], hashlib.sha256).hexdigest().encode() != found[3]:
            return good
        previous, good = found[2].decode(), good + 1
        secret = hashlib.sha256(b"shype audit key\0" + secret).digest()
    return good


class FullDisk:
    """From now on the file system takes no more bytes in the trail's own file than ``room``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, made: Trail, room: int = 0) -> None:
        self.room = room
        self.full = True
        inner = os.pwrite

        def pwrite(handle: int, data: bytes, place: int) -> int:
            name = Path(f"/proc/self/fd/{handle}").readlink()
            if not self.full or name != made.path.resolve():
                return inner(handle, data, place)
            if self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = inner(handle, data[:self.room], place)
            self.room -= written
            return written

        monkeypatch.setattr(os, "pwrite", pwrite)
