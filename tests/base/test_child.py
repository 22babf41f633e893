"""The one way to run a child process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.base import child
from shype.base.errors import Unavailable


def test_output_and_code_come_back() -> None:
    done = child.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")


def test_input_is_given_and_otherwise_there_is_none() -> None:
    assert child.run(["cat"], input="ä\n").out == "ä\n"
    assert child.run(["cat"]).out == ""


def test_failure_shows_a_command_to_paste_and_the_last_words() -> None:
    with pytest.raises(child.ChildFailed) as caught:
        child.run(["sh", "-c", "echo 'no space' >&2; exit 1"])
    assert "sh -c 'echo '" in str(caught.value)
    assert "no space" in str(caught.value)
    assert caught.value.id == "child.failed"


def test_failure_with_a_log_still_shows_the_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(child.ChildFailed, match="the reason"):
        child.run(["sh", "-c", "echo the reason; exit 1"], log=log)
    assert log.read_text().startswith("$ sh -c")


def test_missing_program_names_its_package() -> None:
    with pytest.raises(Unavailable) as caught:
        child.run(["qemu-img-that-is-not-there"])
    assert caught.value.id == "tool.missing"
    error = child.missing_tool("qemu-img")
    assert error.fix == "apt-get install qemu-utils"


def test_missing_program_is_named_although_another_one_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    (tmp_path / "setpriv").symlink_to(setpriv)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="'xl'") as caught:
        child.run(["xl", "list"], die_with_parent=True)
    assert (caught.value.id, caught.value.fix) == ("tool.missing", "apt-get install xen-utils-4.17")


def test_all_missing_programs_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable) as caught:
        child.require("secilc", "mmdebstrap")
    assert caught.value.fix == "apt-get install mmdebstrap secilc"


def test_timeout_is_an_error() -> None:
    with pytest.raises(child.ChildFailed, match=r"within 0\.2 s"):
        child.run(["sleep", "20"], timeout=0.2)


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """A launch that is killed must not leave an xl behind that goes on building."""
    pid_file = tmp_path / "pid"
    code = (
        "from shype.base import child; import sys;"
        "child.run(['sh', '-c', 'echo $$ > ' + sys.argv[1] + '; exec sleep 60'],"
        " die_with_parent=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(pid_file)])
    try:
        deadline = time.monotonic() + 20
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid = int(pid_file.read_text())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        while _alive(pid):
            assert time.monotonic() < deadline, "the child outlived its parent"
            time.sleep(0.02)
    finally:
        parent.kill()


# -- feed and drain -------------------------------------------------------------------------------


def test_feed_gives_the_stream_and_returns_what_was_printed() -> None:
    done = child.feed(["sh", "-c", "cat; echo said >&2"], lambda ended: iter([b"one ", b"two"]),
                      timeout=30)
    assert (done.code, done.out, done.err) == (0, "one two", "said\n")


def test_feed_closes_a_stream_that_goes_on_when_the_child_has_had_enough() -> None:
    closed = list[str]()

    def source(ended: Callable[[], bool]) -> Iterator[bytes]:
        try:
            while not ended():
                yield bytes(65536)
        finally:
            closed.append("closed")

    done = child.feed(["head", "-c", "100000"], source, timeout=30)
    assert (len(done.out), closed) == (100000, ["closed"])


def test_a_child_that_fails_in_the_midst_of_its_stream_says_why() -> None:
    with pytest.raises(child.ChildFailed, match="no more") as caught:
        child.feed(["sh", "-c", "echo no more >&2; exit 3"],
                   lambda ended: iter([bytes(1 << 20)] * 9), timeout=30)
    assert caught.value.done.code == 3


def test_a_source_that_fails_ends_the_child() -> None:
    pids, others = list[int](), _children()

    def source(ended: Callable[[], bool]) -> Iterator[bytes]:
        yield b"begin"
        pids.extend(_children() - others)
        raise OSError("the sender broke off")

    with pytest.raises(OSError, match="broke off"):
        child.feed(["sleep", "60"], source, timeout=30)
    assert pids
    assert not any(_alive(pid) for pid in pids)


def test_feed_does_not_wait_for_ever_after_the_stream() -> None:
    with pytest.raises(child.ChildFailed, match=r"within 0\.2 s"):
        child.feed(["sleep", "60"], lambda ended: iter(()), timeout=0.2)


def test_feed_does_not_wait_for_ever_for_a_child_that_does_not_read() -> None:
    closed = list[str]()

    def source(ended: Callable[[], bool]) -> Iterator[bytes]:
        try:
            while not ended():
                yield bytes(1 << 20)
        finally:
            closed.append("closed")

    with pytest.raises(child.ChildFailed, match=r"within 0\.2 s"):
        child.feed(["sleep", "60"], source, timeout=0.2)
    assert closed


def test_drain_gives_all_that_is_printed() -> None:
    taken = list[bytes]()
    done = child.drain(["sh", "-c", "head -c 3000000 /dev/zero; echo said >&2"], taken.append,
                       timeout=30)
    assert sum(map(len, taken)) == 3000000
    assert (done.out, done.err) == ("", "said\n")


def test_a_child_whose_output_nobody_takes_may_put_right_what_it_began(tmp_path: Path) -> None:
    """xl resumes a guest when its image cannot be written: it must hear EPIPE and not die."""
    def full(chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    script = (f"head -c 100000000 /dev/zero 2>{tmp_path}/heard; echo resumed > {tmp_path}/guest; "
              "exit 1")
    with pytest.raises(OSError, match="No space"):
        child.drain(["sh", "-c", script], full, timeout=30)
    assert (tmp_path / "guest").read_text() == "resumed\n"
    assert "Broken pipe" in (tmp_path / "heard").read_text()


def test_drain_kills_a_child_that_puts_nothing_right() -> None:
    pids, others = list[int](), _children()

    def full(chunk: bytes) -> None:
        pids.extend(_children() - others)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        child.drain(["sh", "-c", "echo x; exec sleep 60"], full, timeout=0.2)
    assert pids
    assert not any(_alive(pid) for pid in pids)


def test_drain_tells_of_a_failure_and_of_a_missing_program() -> None:
    with pytest.raises(child.ChildFailed, match="it broke"):
        child.drain(["sh", "-c", "echo it broke >&2; exit 3"], lambda chunk: None, timeout=30)
    with pytest.raises(Unavailable):
        child.drain(["xl-that-is-not-there"], lambda chunk: None, timeout=30)


def test_a_conversation() -> None:
    with child.conversation(["sh", "-c", "read a; echo $a; cat >&2; exit 3"]) as (to, of, said):
        to.write(b"hello\n")
        to.flush()
        assert of.readline() == b"hello\n"
        to.write(b"for people")
        to.flush()
        assert said() == "for people"


def _children() -> set[int]:
    """Of this process, those of other tests' fixtures included."""
    lists = Path("/proc/self/task").glob("*/children")  # by the thread that made them
    return {int(word) for found in lists for word in found.read_text().split()}


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_service_has_what_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = 'ls /proc/self/fd; pwd; echo "$SECRET"; umask; exec sleep 100'
    with said.open("wb") as output, (tmp_path / "kept").open("wb") as kept:
        started = child.service(["sh", "-c", script], cwd=str(tmp_path), keep=[kept.fileno()],
                                output=output.fileno())
        try:
            _until(lambda: said.read_text().count("\n") >= 7)
            *handles, where, secret, mask = said.read_text().splitlines()
            assert set(handles) - {"3"} == {"0", "1", "2", str(kept.fileno())} - {"3"}
            assert (where, secret, mask) == (str(tmp_path), "", "0077")
            assert os.getsid(started.pid) == started.pid
        finally:
            started.end(10)
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


def test_a_service_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        started = child.service(["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"],
                                cwd="/", keep=[], output=output.fileno())
        _until(lambda: said.read_text() == "\n")
        started.end(0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


def test_a_service_that_cannot_start_is_an_oserror(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as output, pytest.raises(OSError, match="nothing"):
        child.service(["/nothing"], cwd="/", keep=[], output=output.fileno())


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
