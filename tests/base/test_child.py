"""The one way to run a child process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
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


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
