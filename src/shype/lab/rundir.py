"""The directories of running labs: who runs, who is gone, and tidying up after the latter."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from shype.base import canonical, files
from shype.base.errors import BadInput, Unavailable
from shype.lab import paths, spawn


@dataclass(frozen=True, slots=True)
class Record:
    """What ``lab.json`` says of a lab."""

    name: str
    pid: int
    began: int
    boot: str
    created: float
    flask: str
    policy: str
    digest: str
    attached: bool
    seconds: float
    from_snapshot: bool
    #: False while it is being started; then it ends with whoever starts it.
    ready: bool = True

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.boot == spawn.boot_id() and spawn.start_time(self.pid) == self.began

    def save(self, directory: Path) -> None:
        """Write it to a lab's directory."""
        files.write_atomic(directory / "lab.json", canonical.dumps(asdict(self)))


def read(directory: Path) -> Record | None:
    """A lab directory's record, or None if it has no (sound) one."""
    try:
        return Record(**json.loads((directory / "lab.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def running() -> tuple[Record, ...]:
    """All labs whose QEMU lives, by name."""
    if not paths.runs().is_dir():
        return ()
    found = [read(entry) for entry in sorted(paths.runs().iterdir()) if entry.is_dir()]
    return tuple(r for r in found if r is not None and r.ready and r.alive)


def find(name: str) -> tuple[Path, Record]:
    """The running lab ``name``. Raises Unavailable (``lab.not-up``)."""
    directory = paths.runs() / paths.checked_name(name)
    record = read(directory)
    if record is None or not record.alive:
        others = ", ".join(r.name for r in running())
        raise Unavailable("lab.not-up", f"the lab {name!r} does not run"
                          + (f" (running: {others})" if others else ""),
                          f"shype lab up POLICY --name {name}")
    return directory, record


@contextlib.contextmanager
def claimed(name: str) -> Iterator[Path]:
    """An empty directory for a new lab ``name``, held against others while it starts.

    Removes what dead labs left.  Raises BadInput (``lab.exists``) if one of
    that name runs or is just starting.
    """
    root = paths.runs()
    root.mkdir(parents=True, exist_ok=True)
    sweep()
    directory = root / paths.checked_name(name)
    held = _hold(directory)
    if held is None:
        raise _exists(name)
    record = read(directory)
    if record is not None and record.alive:
        _release(directory, held)
        raise _exists(name)
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        yield directory
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        _release(directory, held)


def _exists(name: str) -> BadInput:
    return BadInput("lab.exists", f"a lab named {name!r} runs already",
                    f"shype lab down --name {name}, or choose another --name")


def _hold(directory: Path) -> int | None:
    """The lock of a lab's name, or None if it is taken."""
    path = _lock(directory)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its last holder may have removed it meanwhile: then this is nobody's lock
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OSError:
            os.close(handle)
            return None
        os.close(handle)


def _lock(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.lock")


def _release(directory: Path, held: int) -> None:
    """Give the lock back, and remove it with the last lab of that name."""
    if not directory.is_dir():
        _lock(directory).unlink(missing_ok=True)
    os.close(held)


def sweep() -> None:
    """Tidy up after labs whose QEMU is gone, and end those whose start was killed half-way."""
    if not paths.runs().is_dir():
        return
    names = {entry.name.removeprefix(".").removesuffix(".lock") for entry in paths.runs().iterdir()}
    for directory in (paths.runs() / name for name in sorted(names)):
        held = _hold(directory)
        if held is None:
            continue  # it is starting
        record = read(directory)
        if record is None or not record.alive or not record.ready:
            if record is not None:
                end(record)
            shutil.rmtree(directory, ignore_errors=True)
        _release(directory, held)


def remove(directory: Path) -> None:
    """Remove the directory of a lab that has ended."""
    shutil.rmtree(directory, ignore_errors=True)
    held = _hold(directory)
    if held is not None:
        _release(directory, held)


def stop(name: str) -> Record:
    """End the lab ``name`` and remove its directory. Raises Unavailable (``lab.not-up``)."""
    directory, record = find(name)
    end(record)
    remove(directory)
    return record


def end(record: Record) -> None:
    """Kill a lab's QEMU (its disk is an overlay nobody needs) and wait until it is gone."""
    spawn.kill(record.pid, record.began, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while record.alive and time.monotonic() < deadline:
        time.sleep(0.01)
