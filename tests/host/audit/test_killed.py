"""Writers that are killed at any byte, on disks that are full or not, and rotation in between.

What was acknowledged is there, in order and once; a record whose writer was killed is there
whole or as torn bytes; two verifiers agree that the trail is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shype.base.errors import Unavailable
from shype.host.audit import writer
from shype.host.audit.reader import records, stored
from shype.host.audit.trail import Trail
from tests.host.audit.builders import checked, event, independent, key, trail


class Killed(BaseException):
    """As SIGKILL: no handler of the code under test may do anything about it."""


@dataclass
class Machine:
    """The system calls of a writer: kills it at the ``calls``-th, which does ``part`` of its
    work; ``full``: the trail's file takes no more bytes than ``room``."""

    made: Trail
    calls: int | None = None
    part: float = 0
    full: bool = False
    room: int = 0
    count: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        pwrite = os.pwrite

        def write(handle: int, data: bytes, place: int) -> int:
            if self._due():
                if length := int(len(data) * self.part):
                    pwrite(handle, data[:length], place)
                raise Killed
            if self.full and Path(f"/proc/self/fd/{handle}").readlink() == self.made.path.resolve():
                if self.room == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.room -= (done := pwrite(handle, data[:self.room], place))
                return done
            return pwrite(handle, data, place)

        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(os, "pwrite", write))
            for name in ("fdatasync", "rename", "ftruncate", "fsync"):
                inner = self._interrupted(getattr(os, name)) if name != "fdatasync" else (
                    self._interrupted(lambda handle: None))
                patches.enter_context(mock.patch.object(os, name, inner))
            yield

    def _interrupted(self, inner: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **options: object) -> object:
            if self._due():
                if self.part > 0.5:
                    inner(*words, **options)
                raise Killed
            return inner(*words, **options)

        return call

    def _due(self) -> bool:
        self.count += 1
        return self.calls is not None and self.count > self.calls


OPERATION = st.tuples(
    st.sampled_from(["append", "append", "keep", "rotate", "fill", "free"]),
    st.one_of(st.none(), st.none(), st.integers(0, 14)),
    st.sampled_from([0, 0.01, 0.3, 0.51, 0.999, 1]), st.integers(0, 300))


@example([("append", 0, 0.999, 0)])
@example([("append", 0, 0.999, 0), ("fill", None, 0, 0), ("keep", None, 0, 0)])
@example([("append", 0, 0.01, 0), ("append", 1, 0, 0)])
@example([("append", 0, 0.01, 0), ("append", 0, 0.999, 0), ("fill", None, 0, 0),
          ("keep", 3, 0.3, 0)])
@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATION, max_size=14))
def test_killed_anywhere(steps: list[tuple[str, int | None, float, int]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place, \
            mock.patch.object(writer, "ROTATE_AT", 3000):
        _run(Path(place), steps)


def _run(place: Path, steps: list[tuple[str, int | None, float, int]]) -> None:
    made = trail(place, 2)
    machine = Machine(made)
    certain: list[int] = []  # acknowledged
    possible: set[int] = set()  # their writer was killed
    for number, (what, machine.calls, machine.part, room) in enumerate(steps, 100):
        machine.count = 0
        if what in ("fill", "free"):
            machine.full, machine.room = what == "fill", room
            continue
        try:
            with machine.running():
                if what == "rotate":
                    made.rotate()
                    continue
                made.record(event(number, deferrable=what == "keep"))
                certain.append(number)
        except Killed:
            possible.add(number)
        except Unavailable as error:
            assert error.id == "audit.unwritable"  # noqa: PT017
            assert machine.full
    machine.full, machine.calls = False, None
    made.record(event(999))
    found = [r.body["details"]["number"] for r in records(made.directory)
             if r.body["kind"] == "launch" and r.body["details"]["number"] >= 100]
    assert len(set(found)) == len(found)
    assert [n for n in found if n not in possible] == [*certain, 999]
    report = checked(made)
    assert report.problems == ()
    torn = sum("was killed" in note for note in report.notes)
    assert torn == len(report.notes) <= len(possible) + len(steps)
    if not torn:
        everything = b"".join(file.read_bytes() for file in stored([made.directory]).files)
        assert independent(everything, key(made)[1]) == report.records


@pytest.mark.parametrize("torn", [b"{", b'{"actor":', b"\0" * 4096, b"x\ny\n", b"\n"])
def test_torn_bytes_stay_and_are_told_of(tmp_path: Path, torn: bytes) -> None:
    made = trail(tmp_path, 3)
    with made.path.open("ab") as file:
        file.write(torn)
    assert [note.partition(": ")[2] for note in checked(made).notes] == [
        f"{len(torn)} bytes behind the last record: a writer was killed, or still writes"]
    made.record(event())
    assert torn in made.path.read_bytes()
    report = checked(made)
    assert report.problems == ()
    assert "record 4: a writer was killed" in report.notes[0]
    assert report.records == 5


def test_torn_bytes_on_a_full_disk(tmp_path: Path) -> None:
    made = trail(tmp_path, 3)
    with made.path.open("ab") as file:
        file.write(b'{"torn')
    machine = Machine(made, full=True)
    with machine.running():
        made.record(event(7, deferrable=True))
    assert checked(made).problems == ()
    made.record(event(8))
    report = checked(made)
    assert (report.problems, report.records, len(report.notes)) == ((), 6, 1)
