"""RAM disks as cpio(1) reads them."""

from __future__ import annotations

import stat
from pathlib import Path

from shype.base import child, cpio

ENTRIES = [
    cpio.directory("bin"), cpio.file("bin/tool", b"#!/bin/sh\n", 0o755), cpio.console(),
    cpio.symlink("bin/sh", "tool"), cpio.file("empty", b""),
]


def test_cpio_unpacks_it(tmp_path: Path) -> None:
    entries = [entry for entry in ENTRIES if not stat.S_ISCHR(entry.mode)]
    child.run(["cpio", "-id", "--quiet"], input=cpio.archive(entries), cwd=tmp_path)
    assert (tmp_path / "bin/sh").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").is_symlink()
    assert (tmp_path / "empty").read_bytes() == b""


def test_cpio_lists_the_device() -> None:
    listing = child.run(["cpio", "-itv", "--quiet"], input=cpio.archive([cpio.console()])).out
    assert listing.startswith("crw-------")
    assert "5,   1" in listing


def test_same_bytes_every_time() -> None:
    assert cpio.archive(ENTRIES) == cpio.archive(ENTRIES)
