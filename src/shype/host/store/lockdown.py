"""Whether guests can change access lists in XenStore, and the end of it on a running host.

The C xenstored takes ``--perm-nb N``: how many entries a guest's access list may have. Every
list has at least one, the owner's, so with 0 it refuses each SET_PERMS of a guest (ENOSPC), in
transactions too; dom0 is exempt. The number can be given at the start only (the command
``quota set`` refuses 0), but the daemon can replace itself while guests run, state and
connections kept ("live update"). oxenstored has neither.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import BadInput, Unavailable
from shype.host.store.store import Store, StoreError

#: Where to say it for the next boot, on Debian.
DEFAULTS = "/etc/default/xen"
#: A node that is made and removed again to learn what the daemon's listings tell.
SCRATCH = "/tool/shype-probe"
#: Seconds that open transactions of guests may hold up a live update; then they are given up.
_TRANSACTIONS = 5
_QUOTA = re.compile(r"^permissions\s*:\s*(\d+)\s", re.MULTILINE)
#: What getopt says of options that a program does not take.
_COMPLAINT = re.compile(r"(invalid|unrecognized) option|requires an argument")
_PERMISSIONS = re.compile(r"-A|--perm-nb")


@dataclass(frozen=True, slots=True)
class Lockdown:
    """``permissions``: how many entries a guest may set; None if the daemon has no such quota."""

    permissions: int | None

    @property
    def holds(self) -> bool:
        """Whether no guest can change an access list."""
        return self.permissions == 0

    def __str__(self) -> str:
        if self.permissions is None:
            return "open: this xenstored has no quota of permissions (oxenstored?)"
        if self.holds:
            return "locked: no guest can change an access list"
        return f"open: guests can change access lists (up to {self.permissions} entries)"


def lockdown(store: Store) -> Lockdown:
    """How the running daemon treats guests. Raises Unavailable (``host.no-xenstore``)."""
    try:
        found = _QUOTA.search(store.control("quota"))
    except StoreError:
        found = None  # a daemon without this command
    return Lockdown(int(found[1]) if found else None)


def require_locked(store: Store) -> None:
    """Raises Unavailable: ``host.xenstore-open``, ``host.no-xenstore``."""
    found = lockdown(store)
    if found.holds:
        return
    if found.permissions is None:
        raise Unavailable(
            "host.xenstore-open",
            "XenStore is not locked: the running xenstored has no quota of permissions, so guests "
            "give each other access to their nodes, past every policy",
            f"start the C xenstored with --perm-nb 0 ({DEFAULTS}: {settings()}) and reboot; "
            "oxenstored cannot be locked",
        )
    raise Unavailable(
        "host.xenstore-open",
        f"XenStore is not locked: guests can set up to {found.permissions} permissions on their "
        "nodes and so give each other access, past every policy",
        f"shype store lock (now), and {DEFAULTS}: {settings()} (from the next boot on)",
    )


def settings(daemon: str = "/usr/lib/xen-4.17/bin/xenstored") -> str:
    """The lines of `DEFAULTS` that start a locked daemon."""
    return f'XENSTORED={daemon} XENSTORED_ARGS="--perm-nb 0"'


def hides_writes(store: Store) -> bool | None:
    """Whether DIRECTORY_PART keeps the number of all writes to itself (stock daemons tell it).

    None if the daemon has no such request.

    A node of our own is written twice; its list of children is the same both times.
    """
    marks = []
    try:
        for value in (b"1", b"2"):
            store.write(SCRATCH, value)
            marks.append(store.listing(SCRATCH)[0])
    except StoreError:
        return None
    finally:
        store.remove(SCRATCH)
    return marks[0] == marks[1]


@dataclass(frozen=True, slots=True)
class Daemon:
    """The running C xenstored: its program, and the options that it was started with."""

    program: str
    options: tuple[str, ...]

    def locked(self) -> tuple[str, ...]:
        """Its options with ``--perm-nb 0``, and without those that belong to one start only."""
        kept: list[str] = []
        words = iter(self.options)
        for word in words:
            if _PERMISSIONS.fullmatch(word):
                next(words, None)
            elif word.startswith("--perm-nb=") or re.fullmatch(r"-A\d+", word):
                continue
            elif word not in ("-U", "--live-update"):
                kept.append(word)
        return ("--perm-nb", "0", *kept)


def daemon(proc: Path = Path("/proc")) -> Daemon:
    """The running C xenstored. Raises Unavailable (``store.no-daemon``)."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            program = str((entry / "exe").readlink()).removesuffix(" (deleted)")
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended, or is a thread of the kernel
        if Path(program).name.startswith("xenstored"):
            found.append(Daemon(program, tuple(w.decode("utf-8", "replace") for w in words[1:-1])))
    if len(found) != 1:
        raise Unavailable(
            "store.no-daemon",
            f"{len(found)} processes here are the C xenstored, so none is replaced",
            f"start the C xenstored with --perm-nb 0 ({DEFAULTS}: {settings()}) and reboot",
        )
    return found[0]


def replace(store: Store, program: str, options: Sequence[str]) -> None:
    """Let the daemon become ``program`` with ``options``, its guests and its contents kept.

    Guests' transactions that are still open after some seconds are given up, so that no guest
    can hold the update up.

    Raises BadInput (``store.program``), Unavailable (``store.live-update``): then the daemon is
    what it was.
    """
    if any(re.search(r"\s", word) or not word for word in options):
        raise BadInput("store.program", "an option of xenstored has a blank: "
                       + shlex.join(options), "the daemon takes its options separated by blanks")
    _require_fit(program, options)
    steps = (("-f", program), ("-c", " ".join(options)),
             ("-s", "-t", str(_TRANSACTIONS), "-F"))
    for step in steps:
        try:
            said = store.control("live-update", *step)
        except StoreError as error:
            said = error.errno
        if said != "OK":
            _abort(store)
            raise Unavailable(
                "store.live-update", f"xenstored refused to be replaced by {program}: {said}",
                f"start it locked at the next boot ({DEFAULTS}: {settings()})",
            )


def _require_fit(program: str, options: Sequence[str]) -> None:
    """What takes over must understand it: a daemon that ends at its start leaves none behind."""
    fix = "give the whole path of a C xenstored, of Xen 4.17 or later"
    if not Path(program).is_absolute() or not Path(program).is_file():
        raise BadInput("store.program", f"{program} is no program", fix)
    try:  # it reads all its options and then prints its help
        done = child.run([program, *options, "-U", "-H"], check=False, timeout=10)
    except (OSError, child.ChildFailed) as error:
        raise BadInput("store.program", f"{program} cannot be run: {error}", fix) from error
    said = done.out + done.err
    if done.code != 0 or "--perm-nb" not in said or _COMPLAINT.search(said):
        raise BadInput(
            "store.program", f"{program} is no xenstored that takes {shlex.join(options)} and can "
            "be replaced while it runs", fix)


def _abort(store: Store) -> None:
    try:
        store.control("live-update", "-a")
    except Unavailable:
        return  # nothing was under way, or the daemon is silent: the first error tells
