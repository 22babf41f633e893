"""The manager's first process: it mounts, takes its right, and answers on its console for ever.

Requests and answers are lines.  It never ends by itself: a request that it cannot serve is
answered, and a fault closes the window.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import termios
import tty
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from shype.base.errors import ShypeError
from shype.host.drivers.xen import grants
from shype.host.drivers.xen.access import Questions
from shype.host.drivers.xen.flask import PAGE, Flask, release
from shype.host.drivers.xen.listing import Listed, listed
from shype.host.manager.authority import MAX_LINE, Authority
from shype.host.manager.succession import Succession
from shype.host.trust import trusted_keys
from shype.host.update import staged
from shype.host.versions import advanced

#: Where the image keeps what the manager decides by.
BUNDLE, KEYS, MODULES = Path("/etc/shype/policy.shype"), Path("/etc/shype/keys"), Path("/modules")
#: The host's bundle at the manager's start, which may be newer than the image's and not older.
CURRENT = Path("/etc/shype/current.shype")
CONSOLE = "/dev/hvc0"
#: Linux on x86-64: finit_module(2).
_FINIT_MODULE = 313
#: Debian's kernel blocks every hypercall of an unprivileged guest without it.
_UNRESTRICTED = b"unrestricted=1"


class Xen:
    """Implements `shype.host.manager.authority.Monitor` by hypercalls."""

    def __init__(self) -> None:
        self._flask = Flask()
        self._questions = Questions()

    def target(self) -> str:
        """See the protocol."""
        major, minor = release()
        return f"xen-{major}.{minor}"

    def boolean(self, name: str) -> bool | None:
        """See the protocol."""
        return self._flask.boolean(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """See the protocol."""
        self._flask.set_booleans(values)

    def listed(self) -> Sequence[Listed]:
        """See the protocol."""
        return listed(self._questions)

    def load(self, policy: bytes) -> None:
        """See the protocol."""
        self._flask.load(policy)

    def print_grants(self) -> None:
        """See the protocol."""
        grants.press()


def serve(authority: Authority, console: int) -> None:
    """Answer on ``console`` until it ends (which a console does not)."""
    waiting, overlong = b"", False
    while True:
        with contextlib.suppress(ShypeError, OSError, MemoryError):  # tried again at the next turn
            authority.tick()
        if not select.select([console], [], [], 1.0)[0]:
            continue
        chunk = os.read(console, 4096)
        if not chunk:
            return
        *lines, waiting = (waiting + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if overlong:  # its beginning has been refused
                overlong = False
            elif line.strip():
                _write(console, authority.handle(line) + b"\n")
        if len(waiting) > MAX_LINE:
            if not overlong:
                _write(console, authority.handle(waiting) + b"\n")
            waiting, overlong = b"", True


def main() -> None:
    """Be the manager."""
    _mount()
    _load_modules()
    console = os.open(CONSOLE, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(console, termios.TCSANOW)
    try:
        _leave_room()
        authority = Authority(succession(BUNDLE, CURRENT, KEYS), Xen(), today=date.today)
        authority.begin()
        _write(console, b'{"id": null, "ready": true}\n')
        serve(authority, console)
    except BaseException as error:
        _write(console, f'\n{{"id": null, "failed": "{type(error).__name__}"}}\n{error}\n'.encode())
        raise


def succession(first: Path, current: Path, keys: Path) -> Succession:
    """Begins with the bundle ``current`` if there is one: no older one than ``first``.

    Raises BadInput (``bundle.*``, ``key.*``).
    """
    floor = staged.read(first, keys)
    known = advanced({}, floor.bundle)
    now = staged.read(current, keys) if current.exists() else floor
    return Succession(replace(now, sealed=b""), trusted_keys(keys), known)


def _leave_room() -> None:
    """What needs too much memory is to fail, and not to have the kernel end this process."""
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    own = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    most = own + int(sizes["MemAvailable"].split()[0]) * 1024 * 9 // 10
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _mount() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"),
                        ("tmpfs", "/tmp")):
        Path(place).mkdir(exist_ok=True)
        libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None)


def _load_modules() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for path in sorted(MODULES.glob("*.ko")):
        with path.open("rb") as file:
            libc.syscall(_FINIT_MODULE, file.fileno(), _UNRESTRICTED, 0)


def _write(console: int, data: bytes) -> None:
    while data:
        data = data[os.write(console, data):]


if __name__ == "__main__":
    main()
