"""Starting QEMU so that it lives exactly as long as it should."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from shype.base import child

_jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_guard = threading.Lock()
_thread: threading.Thread | None = None


def start(
    argv: Sequence[str], *, cwd: Path, log: Path, with_parent: bool
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, output to ``log``.

    ``with_parent``: the kernel kills it when this process ends, however it
    ends.  That death signal is tied to the *thread* that forks, so one thread
    that lasts as long as the process forks for all.
    Raises Unavailable (``tool.missing``).
    """
    words = ["setpriv", "--pdeathsig", "KILL", *argv] if with_parent else list(argv)

    def fork() -> subprocess.Popen[bytes]:
        with log.open("wb") as sink:
            return subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink,
                                    stderr=sink, start_new_session=True)

    child.require(words[0], argv[0])
    if not with_parent:
        return fork()
    done: Future[subprocess.Popen[bytes]] = Future()

    def job() -> None:
        try:
            done.set_result(fork())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            done.set_exception(error)

    _forker()
    _jobs.put(job)
    return done.result()


def _forker() -> None:
    global _thread
    with _guard:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_serve, name="lab-forker", daemon=True)
            _thread.start()


def _serve() -> None:
    while True:
        _jobs.get()()


def start_time(pid: int) -> int | None:
    """When process ``pid`` began, in clock ticks since boot; None if there is none (or a zombie).

    Together with the pid it names one process for ever (proc(5), stat field 22).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """This boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def kill(pid: int, began: int, signal: int) -> bool:
    """Send ``signal`` to process ``pid`` if it is still the one that began at ``began``."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if start_time(pid) != began:
            return False
        from signal import pidfd_send_signal

        pidfd_send_signal(handle, signal)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
