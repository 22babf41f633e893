"""Directories of running labs: claims, truth about who runs, tidying up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.lab import paths, rundir, spawn


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record(name: str, pid: int, began: int | None = None) -> rundir.Record:
    return rundir.Record(
        name=name, pid=pid, began=spawn.start_time(pid) or 0 if began is None else began,
        boot=spawn.boot_id(), created=0.0, flask="enforcing", policy="", digest="",
        attached=True, seconds=1.0, from_snapshot=False)


def up(name: str, pid: int, began: int | None = None) -> None:
    with rundir.claimed(name) as directory:
        record(name, pid, began).save(directory)


def test_a_running_lab_is_found_and_its_name_is_taken(sleeper: subprocess.Popen[bytes]) -> None:
    up("one", sleeper.pid)
    assert [r.name for r in rundir.running()] == ["one"]
    with pytest.raises(BadInput) as caught, rundir.claimed("one"):
        pass
    assert caught.value.id == "lab.exists"
    rundir.stop("one")
    assert sleeper.wait(5) == -9
    assert rundir.running() == ()
    assert list(paths.runs().iterdir()) == []


def test_a_recycled_pid_is_not_the_lab(sleeper: subprocess.Popen[bytes]) -> None:
    began = spawn.start_time(sleeper.pid)
    assert began is not None
    up("old", sleeper.pid, began - 1)
    assert rundir.running() == ()
    with pytest.raises(Unavailable) as caught:
        rundir.stop("old")
    assert caught.value.id == "lab.not-up"
    assert sleeper.poll() is None, "a process that is not ours was killed"


def test_another_boot_of_the_machine(sleeper: subprocess.Popen[bytes]) -> None:
    with rundir.claimed("old") as directory:
        old = record("old", sleeper.pid)
        fields = {name: getattr(old, name) for name in rundir.Record.__dataclass_fields__}
        rundir.Record(**{**fields, "boot": "another"}).save(directory)
    assert rundir.running() == ()


def test_a_name_being_started_is_taken() -> None:
    with rundir.claimed("one"), pytest.raises(BadInput), rundir.claimed("one"):
        pass


def test_a_failed_start_leaves_nothing() -> None:
    def fail() -> None:
        with rundir.claimed("one") as directory:
            (directory / "disk").write_text("x")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert list(paths.runs().iterdir()) == []


def test_the_dead_are_swept_at_the_next_start(sleeper: subprocess.Popen[bytes]) -> None:
    up("dead", 2**22 - 1, 1)
    (paths.runs() / "broken").mkdir()
    (paths.runs() / "broken" / "lab.json").write_text("{")
    up("alive", sleeper.pid)
    rundir.sweep()
    assert sorted(p.name for p in paths.runs().iterdir()) == [".alive.lock", "alive"]


def test_a_start_killed_half_way_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    with rundir.claimed("half") as directory:
        replace(record("half", sleeper.pid), ready=False).save(directory)
        rundir.sweep()
        assert sleeper.poll() is None, "somebody is starting it"
    assert rundir.running() == ()
    rundir.sweep()
    assert sleeper.wait(5) == -9
    assert list(paths.runs().iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "A", "-x", "a/b", "x" * 41])
def test_bad_names(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        paths.checked_name(name)
    assert caught.value.id == "lab.bad-name"
