"""What counts as locked, and what replaces a running daemon."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.launch import launch
from shype.host.status import status
from shype.host.store.client import Client
from shype.host.store.lockdown import Daemon, Lockdown, daemon, hides_writes, lockdown, replace
from tests.host.builders import config, host, model
from tests.host.store.daemon import daemon as served

CONTROL, MKDIR, WRITE, RM, ERROR, PART = 0, 12, 11, 13, 16, 22
QUOTA = ("Quota settings:\nnodes            :     1000 Nodes per domain\n"
         "permissions      : {:8d} Permissions per node\n")


@pytest.mark.parametrize(("answer", "permissions", "holds"), [
    ((CONTROL, QUOTA.format(0).encode() + b"\0"), 0, True),
    ((CONTROL, QUOTA.format(1).encode() + b"\0"), 1, False),
    ((CONTROL, QUOTA.format(5).encode() + b"\0"), 5, False),
    ((CONTROL, b"OK\0"), None, False),  # oxenstored
    ((CONTROL, b"permissions of nodes: 0\0"), None, False),
    ((ERROR, b"EINVAL\0"), None, False),
])
def test_locked_is_only_a_quota_of_no_permissions(
    tmp_path: Path, answer: tuple[int, bytes], permissions: int | None, holds: bool
) -> None:
    with served(tmp_path, lambda kind, payload: answer) as path, Client(path) as client:
        found = lockdown(client)
    assert (found, found.holds) == (Lockdown(permissions), holds)


@pytest.mark.parametrize("permissions", [None, 5])
def test_nothing_starts_on_a_host_that_is_open(tmp_path: Path, permissions: int | None) -> None:
    agent = host(tmp_path)
    vm = config(tmp_path, "a-db")
    with model(agent)._contents() as contents:
        contents.permissions = permissions
    with pytest.raises(Unavailable) as caught:
        launch(agent, vm)
    assert caught.value.id == "host.xenstore-open"
    assert len(agent.hypervisor.domains()) == 1
    now = status(agent)
    assert now.store_problem is not None
    assert not now.sound
    with model(agent)._contents() as contents:
        contents.permissions = 0
    assert status(agent).sound
    assert launch(agent, vm).domid is not None


@pytest.mark.parametrize(("marks", "hidden"), [
    ([b"5\0", b"6\0"], False), ([b"5\0", b"5\0"], True), ([None], None),
])
def test_whether_writes_are_hidden(
    tmp_path: Path, marks: list[bytes | None], hidden: bool | None
) -> None:
    asked: list[int] = []

    def handle(kind: int, payload: bytes) -> tuple[int, bytes]:
        asked.append(kind)
        if kind != PART:
            return kind, b"OK\0"
        mark = marks.pop(0)
        return (ERROR, b"ENOSYS\0") if mark is None else (PART, mark + b"\0")

    with served(tmp_path, handle) as path, Client(path) as client:
        assert hides_writes(client) is hidden
    assert asked[-1] == RM


def test_options_of_the_running_daemon_are_kept_but_for_the_quota() -> None:
    given = ("-A", "5", "--pid-file", "/run/x.pid", "--perm-nb", "3", "--perm-nb=2", "-A1", "-U",
             "--entry-nb", "2000")
    assert Daemon("/x", given).locked() == (
        "--perm-nb", "0", "--pid-file", "/run/x.pid", "--entry-nb", "2000")


def process(proc: Path, number: int, program: str, *words: str) -> None:
    entry = proc / str(number)
    entry.mkdir(parents=True)
    (entry / "exe").symlink_to(program)
    (entry / "cmdline").write_bytes(b"".join(w.encode() + b"\0" for w in (program, *words)))


def test_the_daemon_is_found_by_its_program(tmp_path: Path) -> None:
    process(tmp_path, 7, "/bin/sh", "xenstored")
    process(tmp_path, 8, "/usr/lib/xen-4.17/bin/oxenstored")
    (tmp_path / "9").mkdir()  # a kernel thread
    (tmp_path / "meminfo").touch()
    with pytest.raises(Unavailable) as caught:
        daemon(tmp_path)
    assert caught.value.id == "store.no-daemon"
    process(tmp_path, 10, "/usr/lib/xen-4.17/bin/xenstored (deleted)", "--pid-file", "/run/p")
    assert daemon(tmp_path) == Daemon(
        "/usr/lib/xen-4.17/bin/xenstored", ("--pid-file", "/run/p"))


GOOD = '#!/bin/sh\necho "xenstored <options>\n where options may include:\n --perm-nb"\n'
BAD = GOOD + 'echo "xenstored: invalid option -- U" >&2\n'


@pytest.mark.parametrize(("script", "answer", "id", "last"), [
    (GOOD, b"OK\0", None, b"-s"),
    (GOOD, b"Cancellation was requested\0", "store.live-update", b"-a"),
    (BAD, b"OK\0", "store.program", None),
    ("#!/bin/sh\necho oxenstored\n", b"OK\0", "store.program", None),
    (GOOD + "exit 1\n", b"OK\0", "store.program", None),
    ("no program", b"OK\0", "store.program", None),
])
def test_a_daemon_is_replaced_only_by_one_that_understands_its_options(
    tmp_path: Path, script: str, answer: bytes, id: str | None, last: bytes | None
) -> None:
    program = tmp_path / "xenstored"
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    asked: list[list[bytes]] = []

    def handle(kind: int, payload: bytes) -> tuple[int, bytes]:
        asked.append(payload.split(b"\0"))
        return CONTROL, answer

    with served(tmp_path, handle) as path, Client(path) as client:
        try:
            replace(client, str(program), ("--perm-nb", "0"))
            caught = None
        except ShypeError as error:
            caught = error.id
    assert caught == id
    assert (asked[-1][1] if asked else None) == last


def test_options_with_blanks_are_refused(tmp_path: Path) -> None:
    with served(tmp_path, lambda kind, payload: (CONTROL, b"OK\0")) as path, \
            Client(path) as client, pytest.raises(BadInput) as caught:
        replace(client, "/bin/true", ("--pid-file", "/run/a b"))
    assert caught.value.id == "store.program"
