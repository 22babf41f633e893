"""swtpm: one process for one VM's TPM, as a user of its own, in the TPM's directory.

It is told by a control connection to whom it listens (swtpm's CMD_SET_DATAFD, swtpm_ioctls(3)):
first to the agent, then, for good, to `gather`, which hands it the guest's commands. With the
control connection closed nobody tells it anything any more. Who serves a TPM is whoever holds the
lock that swtpm takes in the directory: that is asked of the kernel, so no process id is ever out of
date.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import Unavailable
from shype.host.vtpm import gather
from shype.host.vtpm.places import Owner, TpmPlaces, damaged

PROGRAM = "swtpm"
#: Seconds that it gets to answer, and to end. Making the first keys takes longest.
ANSWER, END = 60.0, 5.0
_SET_DATAFD = 0x10
LOCK = ".lock"  # swtpm's own name for it
#: Debian's, which the TPM's user can run wherever shype is installed.
PYTHON = "/usr/bin/python3"
#: struct flock on x86-64: type, whence, start, length, process.
_FLOCK = "hhqqi4x"
_POLL = 0.02
#: What it prints when it ends at once, because what it finds in the directory is no TPM's state.
_CANNOT_LOAD = "Could not initialize libtpms"
#: Characters of what it printed that an error has.
_SAID = 200


def require() -> str:
    """The path of swtpm. Raises Unavailable (``vtpm.missing``)."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise Unavailable(
            "vtpm.missing", "the policy gives this VM a TPM, and this host has no swtpm",
            "apt-get install swtpm; nothing was started")
    return found


@dataclass(slots=True)
class Served:
    """A process that serves a TPM, as long as its control connection is open."""

    owner: Owner
    log: Path
    _process: child.Service
    _control: socket.socket

    def listen_to(self, stream: socket.socket) -> None:
        """Serve ``stream``. Raises Unavailable (``vtpm.failed``).

        If another stream was served before, its other end must be closed already.
        """
        deadline = time.monotonic() + ANSWER
        while True:
            try:
                socket.send_fds(self._control, [struct.pack(">I", _SET_DATAFD)], [stream.fileno()])
                answer = self._control.recv(4, socket.MSG_WAITALL)
            except OSError as error:
                raise self.failed(f"it does not answer: {error}") from error
            if len(answer) != 4:
                raise self.failed("it has ended")
            if answer == bytes(4):
                return
            if time.monotonic() > deadline:  # it has not seen the end of the other stream yet
                raise self.failed(f"it refuses the connection ({answer.hex()})")
            time.sleep(_POLL)

    def leave(self) -> None:
        """Let it go on by itself."""
        self._control.close()

    def end(self) -> None:
        """End it."""
        self._control.close()
        self._process.end(END)

    def failed(self, why: str) -> Unavailable:
        """The error ``vtpm.failed``, with the last that the process printed.

        ``vtpm.damaged`` if that is that it cannot load what the TPM has kept.
        """
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").split("\n")
        said = [" ".join(line.split()) for line in lines if line.strip()]
        if self.owner.ek and any(_CANNOT_LOAD in line for line in said):
            return damaged(f"swtpm cannot load the state of {self.owner.vm}'s TPM, which is not as "
                           f"it left it ({self.log} has what it printed)")
        if said:
            why += f"; it printed: {' / '.join(said)[-_SAID:]}"
        return failed(self.owner, why)


def failed(owner: Owner, why: str) -> Unavailable:
    """The error ``vtpm.failed``."""
    return Unavailable("vtpm.failed", f"the TPM of {owner.vm} cannot be served: {why}",
                       "see that `swtpm socket --version` works; the VM was not started")


def start(places: TpmPlaces, owner: Owner) -> Served:
    """Start it, powered on. Raises Unavailable: ``vtpm.*``, ``state.unwritable``."""
    program = require()
    log = places.log(owner.uuid)
    ours, its = socket.socketpair()
    ours.settimeout(ANSWER)
    with its, places.opened(owner, make=True) as directory:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                         0o600)
        try:
            process = child.service(
                [program, "socket", "--tpm2", "--tpmstate", "dir=.",
                 "--ctrl", f"type=unixio,clientfd={its.fileno()}",
                 "--locality", "reject-locality-4", "--flags", "not-need-init,startup-clear"],
                # By the descriptor that was looked at, not by a name that may be another by now.
                cwd=f"/proc/self/fd/{directory}", keep=[its.fileno()], output=output,
                user=owner.user)
        except OSError as error:
            ours.close()
            raise failed(owner, str(error)) from error
        finally:
            os.close(output)
    return Served(owner, log, process, ours)


@contextlib.contextmanager
def asked(served: Served) -> Iterator[socket.socket]:
    """A connection to the TPM for the agent itself."""
    ours, its = socket.socketpair()
    with ours:
        with its:
            served.listen_to(its)
        ours.settimeout(ANSWER)
        yield ours


def connect(places: TpmPlaces, served: Served, guest: socket.socket) -> None:
    """Serve the ``guest``, for good. Raises Unavailable: ``vtpm.*``, ``state.unwritable``."""
    owner = served.owner
    ours, its = socket.socketpair()
    program = os.memfd_create("gather")
    output = os.open(served.log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(program, Path(gather.__file__).read_bytes())
        with ours, its, places.opened(owner) as directory:
            served.listen_to(its)
            streams = [guest.fileno(), ours.fileno()]
            process = child.service(
                [PYTHON, "-I", "-S", f"/proc/self/fd/{program}", *map(str, streams)],
                cwd=f"/proc/self/fd/{directory}", keep=[program, *streams], output=output,
                user=owner.user)
    except OSError as error:
        raise failed(owner, str(error)) from error
    finally:
        os.close(output)
        os.close(program)
    deadline = time.monotonic() + ANSWER
    while holder(places, owner, gather.LOCK) is None:
        if time.monotonic() > deadline or not process.running:
            process.end(END)
            raise served.failed("what hands the guest's commands on has ended")
        time.sleep(_POLL)


def serves(places: TpmPlaces, owner: Owner) -> bool:
    """Whether the guest that got it still has it. Raises as `holder`."""
    return all(holder(places, owner, lock) is not None for lock in (LOCK, gather.LOCK))


def holder(places: TpmPlaces, owner: Owner, lock: str = LOCK) -> int | None:
    """The process that serves the TPM, None if none does. Raises Unavailable (``vtpm.damaged``).

    ``lock``: what it has locked; of `gather` another file.
    """
    if not owner.ek and not (places.state(owner.uuid) / LOCK).exists():
        return None  # it was to be made, and has never been started
    with places.opened(owner) as directory:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                             dir_fd=directory)
        except OSError:
            return None  # never started, or not a lock: nobody can hold it
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
        except OSError:
            return None
        finally:
            os.close(handle)
    pid = int(found[4])
    if found[0] == fcntl.F_UNLCK or pid <= 0:
        return None
    try:
        user = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
    # What is in the directory is the process's own to change: it must not name another's.
    return pid if user == (os.geteuid() if owner.user is None else owner.user) else None


def stop(places: TpmPlaces, owner: Owner) -> bool:
    """End whoever serves the TPM; whether there was one. Raises as `holder`."""
    # First who talks to the guest, which need not take what it is told.
    ended = [_stop(places, owner, lock) for lock in (gather.LOCK, LOCK)]
    return any(ended)


def _stop(places: TpmPlaces, owner: Owner, lock: str) -> bool:
    pid = holder(places, owner, lock)
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if holder(places, owner, lock) == pid:  # so the descriptor is of whom the kernel named
            _end(process)
    finally:
        os.close(process)
    return True


def _end(process: int) -> None:
    """Ask it, wait, kill it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        if select.select([process], [], [], END)[0]:
            return
