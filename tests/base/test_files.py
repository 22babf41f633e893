"""Durable files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shype.base import canonical
from shype.base.files import read_regular, write_atomic


def test_replaces_the_whole_content_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    write_atomic(path, b"one", mode=0o600)
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["state"]


def test_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As root, replacing /dev/null by a report would spoil the machine."""
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (fifo, link):
            write_atomic(path, b"text")
            assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert fifo.is_fifo()
    assert link.is_symlink()


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    for data in (b"one", b"two"):
        write_atomic(link, data)
        assert file.read_bytes() == data
    assert link.is_symlink()


def test_canonical_json_does_not_depend_on_order() -> None:
    left = canonical.dumps({"b": [1, 2], "a": "ü"})
    assert left == canonical.dumps({"a": "ü", "b": [1, 2]}) == '{"a":"ü","b":[1,2]}\n'.encode()
    assert len(canonical.digest(left)) == 64


def test_only_regular_files_are_read_and_never_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_regular(path, 10) == b"x" * 10
    assert len(read_regular(path, 5)) == 6, "one more than allowed says: too large"
    os.mkfifo(tmp_path / "fifo")
    for odd in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular|directory"):
            read_regular(odd, 5)
