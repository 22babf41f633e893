"""How dom0 asks the manager: one line of JSON over its console, one line back.

The console is a terminal that root in dom0 can read and write, so nothing that dom0 says is
believed in the manager; and what it does not answer in time has not been permitted.
"""

from __future__ import annotations

import json
import os
import select
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shype.base.errors import ShypeError, Unavailable
from shype.host.lock import LaunchLock
from shype.host.manager.authority import MAX_LINE

#: Seconds in which the manager answers.
ANSWER = 30.0
#: Seconds that another command may be asking.
_TURN = 60.0


class RefusedByManager(ShypeError):
    """The manager does not do it, and nothing has changed; the id is its own."""

    exit_code = 1


class FailedInManager(Unavailable):
    """The manager could not do it, though it may; the id is its own."""


class Link:
    """Asks the manager whose console is the terminal that ``find`` gives."""

    def __init__(self, find: Callable[[], Path], state: Path) -> None:
        self._find, self._lock = find, LaunchLock(state, "manager.lock")

    def find(self) -> Path:
        """The manager's terminal, for several requests in a row. Raises what ``find`` raises."""
        return self._find()

    def ask(
        self, timeout: float = ANSWER, terminal: Path | None = None, **request: object
    ) -> dict[str, Any]:
        """The answer to ``request``.

        Raises Unavailable (``manager.silent``, what ``find`` raises; FailedInManager),
        RefusedByManager.
        """
        id_ = os.urandom(8).hex()
        line = json.dumps({"id": id_, **request}).encode() + b"\n"
        with self._lock.hold(_TURN):
            answer = _talk(terminal or self._find(), line, id_, timeout)
        if "error" in answer:
            id_, why = str(answer["error"]), answer.get("message")
            if answer.get("exit") == Unavailable.exit_code:
                raise FailedInManager(id_, f"the manager failed: {why}")
            raise RefusedByManager(id_, f"the manager refuses: {why}")
        return answer


def _talk(terminal: Path, line: bytes, id_: str, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    try:
        handle = os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _silent(f"its console {terminal} cannot be opened: {error.strerror}") from error
    try:
        tty.setraw(handle, termios.TCSANOW)
        # A line's end first: what somebody else has left unfinished is a bad line of its own.
        left, heard = b"\n" + line, b""
        while (now := time.monotonic()) < deadline:
            readable, writable, _ = select.select(
                [handle], [handle] if left else [], [], deadline - now)
            if writable:
                left = left[os.write(handle, left[:1024]):]
            if readable:
                *lines, heard = (heard + os.read(handle, 4096)).split(b"\n")
                for one in lines:
                    answer = _answer(one)
                    if answer.get("id") == id_:
                        return answer
                heard = heard[-MAX_LINE:]
    except OSError as error:
        raise _silent(f"its console broke: {error.strerror}") from error
    finally:
        os.close(handle)
    raise _silent(f"it has not answered in {timeout:g} s")


def _answer(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _silent(why: str) -> Unavailable:
    return Unavailable(
        "manager.silent", f"the manager does not answer: {why}; no window opens without it",
        "shype manager status; if it is gone, reboot the host: a new one starts only then")
