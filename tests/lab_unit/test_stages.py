"""Build stages are there whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shype.lab.stages import Store


def fill(directory: Path) -> None:
    (directory / "product").write_text("whole")


def test_same_inputs_build_once_other_inputs_again(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(out: Path) -> None:
        calls.append(out)
        fill(out)

    first = store.ensure("xen", {"version": "1"}, make)
    assert store.ensure("xen", {"version": "1"}, make) == first
    assert store.ensure("xen", {"version": "2"}, make) != first
    assert len(calls) == 2
    assert (first / "product").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    store = Store(tmp_path)

    def make(out: Path) -> None:
        fill(out)
        raise error

    with pytest.raises(type(error)):
        store.ensure("xen", {}, make)
    assert not store.path("xen", {}).exists()
    assert not list((tmp_path / "stages").glob("*.part"))
    assert not list((tmp_path / "stages").glob(".*.part"))


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    final = store.path("xen", {})
    stale = final.parent / f".{final.name}.abc.part"
    stale.mkdir(parents=True)
    fill(stale)
    store.ensure("xen", {}, fill)
    assert not stale.exists()


def test_two_at_once_build_once(tmp_path: Path) -> None:
    store, calls, gate = Store(tmp_path), [], threading.Event()

    def make(out: Path) -> None:
        calls.append(out)
        gate.wait(5)
        fill(out)

    workers = [threading.Thread(target=store.ensure, args=("xen", {}, make)) for _ in range(2)]
    for worker in workers:
        worker.start()
    gate.set()
    for worker in workers:
        worker.join()
    assert len(calls) == 1
