"""The launch lock: one change of the host's state at a time.

It is a flock(2): the kernel releases it when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shype.base.errors import Unavailable

#: Seconds between two tries, at first and at most. Fifty that wait must not take the processor
#: from the one that works.
_SOON, _LATE = 0.05, 1.0


class LaunchLock:
    """The file ``lock`` in the state directory; it also holds its owner's pid, for messages.

    What has a lock of its own gives another ``name``.
    """

    def __init__(self, state: Path, name: str = "lock") -> None:
        self._path = state / name

    @contextlib.contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock; wait at most ``timeout`` seconds of monotonic time for it.

        Raises Unavailable: ``lock.busy`` names the process that holds it,
        ``state.unwritable`` if the lock file cannot be opened.
        """
        handle = self._open()
        try:
            began = time.monotonic()
            while not _try(handle, fcntl.LOCK_EX):
                waited = time.monotonic() - began
                if waited >= timeout:
                    pid = _owner(handle)
                    who = f"process {pid}" if pid else "another process"
                    look = f", or look at it: ps -fp {pid}" if pid else ""
                    raise Unavailable(
                        "lock.busy", f"{who} has been changing this host's VMs for {timeout:g} s",
                        f"wait for it and try again{look}",
                    )
                # At most an eighth longer than it had to be.
                time.sleep(min(max(_SOON, waited / 8), _LATE, timeout - waited))
            _sign(handle)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Hold the lock, however long it takes to get it."""
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _sign(handle)
            yield
        finally:
            os.close(handle)

    def holder(self) -> int | None:
        """The process that holds the lock now (0 if it left no name), or None."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _try(handle, fcntl.LOCK_SH) else _owner(handle) or 0
        finally:
            os.close(handle)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(self._path.parent, error) from error


def unwritable(state: Path, error: OSError) -> Unavailable:
    """The error for a state directory that takes no more writing; nothing has been changed."""
    return Unavailable(
        "state.unwritable", f"the agent cannot write its state in {state}: {error.strerror}",
        "make room or permissions there, and run the command as root; no VM was touched",
    )


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the pid is only for messages
        os.pwrite(handle, f"{os.getpid():<20}\n".encode(), 0)


def _owner(handle: int) -> int | None:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else None
