"""The host's side of the channel to dom0's agent (`shype.lab.dom0.labd`)."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

from shype.base.child import Completed
from shype.base.errors import ShypeError, Unavailable
from shype.lab import qemu

#: Bytes per put and get request; base64 makes a third more.
CHUNK = 1 << 18
#: How much longer than the command's own limit an answer may take, in seconds.
GRACE = 30.0
Reply = dict[str, object]


class RemoteError(ShypeError):
    """dom0's agent could not carry out a request (``lab.agent``)."""


class Channel:
    """One of a lab's ports, held until `close`.  Threads may share it."""

    def __init__(self, directory: Path, timeout: float = 10) -> None:
        self._lock = _take_port(directory)
        self._numbers = itertools.count(1)
        self._token = os.urandom(6).hex()
        self._waiting: dict[str, Future[Reply]] = {}
        self._guard = threading.Lock()
        self._closed = False
        self._ended = False
        try:
            self._link = qemu.connect(directory, f"port{self._lock[1]}", timeout)
        except BaseException:
            os.close(self._lock[0])
            raise
        self._link.sendall(b"\n")  # ends a line that a killed client left half written
        threading.Thread(target=self._receive, name="lab-channel", daemon=True).start()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the port.  What the agent still runs for us is killed there."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError):
            self._link.shutdown(2)
        self._link.close()
        os.close(self._lock[0])

    def _receive(self) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while chunk := self._link.recv(1 << 16):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._deliver(line)
        with self._guard:
            waiting, self._waiting = self._waiting, {}
            self._ended = True
        for future in waiting.values():
            future.set_exception(Unavailable(
                "lab.gone", "the lab ended while it was asked something",
                "see `shype lab status`"))

    def _deliver(self, line: bytes) -> None:
        try:
            reply = json.loads(line)
            number = str(reply["id"])
        except (ValueError, KeyError, TypeError):
            return  # the rest of an answer to a client before us
        with self._guard:
            future = self._waiting.pop(number, None)
        if future is not None:
            future.set_result(reply)

    def ask(self, op: str, timeout: float | None = 60, **arguments: object) -> Reply:
        """Send one request and wait for its answer, at most ``timeout`` seconds.

        Raises Unavailable (``lab.gone``, ``lab.no-answer``), RemoteError.
        """
        number = f"{self._token}.{next(self._numbers)}"
        future: Future[Reply] = Future()
        data = json.dumps({**arguments, "op": op, "id": number}).encode() + b"\n"
        try:
            with self._guard:
                if self._closed or self._ended:
                    raise OSError("closed")
                self._waiting[number] = future
                self._link.settimeout(None)
                self._link.sendall(data)
        except OSError as error:
            raise Unavailable("lab.gone", f"the lab is not there any more: {error}",
                              "see `shype lab status`") from error
        try:
            reply = future.result(timeout)
        except FutureTimeout:
            with self._guard:
                self._waiting.pop(number, None)
            raise Unavailable("lab.no-answer", f"dom0's agent did not answer {op} within "
                              f"{timeout:g} s", "see the lab's console") from None
        if "error" in reply:
            raise RemoteError("lab.agent", f"dom0's agent: {op}: {reply['error']}")
        return reply

    def run(
        self, argv: Sequence[str], *, timeout: float | None = 60, input: bytes | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> Completed:
        """Run ``argv`` in dom0; code 124 if it was killed after ``timeout`` seconds."""
        extra: dict[str, object] = {"env": dict(env or {})}
        if input is not None:
            extra["input"] = base64.b64encode(input).decode()
        if cwd is not None:
            extra["cwd"] = cwd
        words = tuple(argv)
        wait = None if timeout is None else timeout + GRACE
        reply = self.ask("run", wait, argv=list(words), limit=timeout, **extra)
        return Completed(words, int(str(reply["code"])), _text(reply["out"]), _text(reply["err"]))

    def spawn(self, argv: Sequence[str], *, log: str | None = None,
              env: Mapping[str, str] | None = None) -> int:
        """Start ``argv`` in dom0's background, output to dom0's file ``log``; its process id."""
        return int(str(self.ask("spawn", argv=list(argv), log=log, env=dict(env or {}))["pid"]))

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in dom0."""
        for start in range(0, max(len(data), 1), CHUNK):
            part = base64.b64encode(data[start : start + CHUNK]).decode()
            self.ask("put", path=path, data=part, append=start > 0, mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file in dom0."""
        parts: list[bytes] = []
        while True:
            offset = sum(map(len, parts))
            reply = self.ask("get", path=path, offset=offset, size=CHUNK)
            part = base64.b64decode(str(reply["data"]))
            parts.append(part)
            if len(part) < CHUNK:
                return b"".join(parts)


def _text(value: object) -> str:
    return base64.b64decode(str(value)).decode(errors="replace")


def _take_port(directory: Path) -> tuple[int, int]:
    """The lock and number of a free port; waits for one if all are taken."""
    handles: list[int] = []
    try:
        for number in range(1, qemu.PORTS + 1):
            handle = os.open(directory / f"port{number}.lock",
                             os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            handles.append(handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            handles.remove(handle)
            return handle, number
        number = os.getpid() % qemu.PORTS
        fcntl.flock(handles[number], fcntl.LOCK_EX)
        return handles.pop(number), number + 1
    finally:
        for handle in handles:
            os.close(handle)
