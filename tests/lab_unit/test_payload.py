"""The payload disk, written here and read by the agent's own code."""

from __future__ import annotations

import fcntl
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from shype.base.errors import BadInput
from shype.lab import payload, recipe
from shype.lab.dom0 import labd


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    path = tmp_path / "initrd"
    path.write_bytes(b"ram disk")
    path.with_name("probe").write_bytes(b"program")
    return path


def index(disk: Path) -> dict[str, tuple[int, int]]:
    data = disk.read_bytes()
    size, _ = struct.unpack_from("<QQ", data, 8)
    return {name: (mode, length) for name, mode, length in json.loads(data[24 : 24 + size])}


def test_it_holds_shype_and_files(tmp_path: Path, initrd: Path) -> None:
    disk = tmp_path / "disk"
    payload.write(disk, guest_initrd=initrd,
                  files={"/etc/xen/vms/a.cfg": "name", "/root/tool": b"#!/bin/sh\n"})
    found = index(disk)
    assert found["/usr/local/bin/shype"][0] == 0o755
    assert found["/usr/local/bin/probe"] == (0o755, 7)
    assert found["/etc/xen/vms/a.cfg"] == (0o644, 4)
    assert found["/root/tool"][0] == 0o755
    assert "/opt/shype/shype/policy/manifest.py" in found
    assert not [name for name in found if "/compile/" in name], "dom0 has no compiler"
    assert disk.stat().st_size == recipe.PAYLOAD_MIB << 20


def test_what_dom0_has_already_is_left_out(tmp_path: Path, initrd: Path) -> None:
    disk, files = tmp_path / "disk", {"/etc/xen/vms/a.cfg": "name"}
    present = payload.digest(initrd)
    payload.write(disk, guest_initrd=initrd, files=files, present=present)
    assert [*index(disk)] == [labd.DIGEST, *files]
    assert present in disk.read_bytes()
    initrd.write_bytes(b"another")
    assert payload.digest(initrd) != present
    payload.write(disk, guest_initrd=initrd, files=files, present=present)
    assert {"/guest/initrd", "/opt/shype/shype/cli/main.py", *files} <= index(disk).keys()


def test_the_agent_writes_the_same_files(
    tmp_path: Path, initrd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, target = tmp_path / "disk", tmp_path / "dom0"
    monkeypatch.setattr(payload, "package", lambda: iter(()))
    monkeypatch.setattr(payload, "WRAPPER", b"")
    big = bytes(range(256)) * 20_000
    payload.write(disk, guest_initrd=initrd,
                  files={f"{target}/a/big": big, f"{target}/a/empty": b"",
                         f"{target}/run": b"#!/bin/sh\n"})
    data = disk.read_bytes()  # keep to the test's own directory
    size, total = struct.unpack_from("<QQ", data, 8)
    entries = json.loads(data[24 : 24 + size])
    body = data[24 + size : 24 + size + total]
    kept, offset, parts = [], 0, []
    for name, mode, length in entries:
        if name.startswith(str(target)):
            kept.append((name, mode, length))
            parts.append(body[offset : offset + length])
        offset += length
    head = json.dumps(kept).encode()
    content = b"".join(parts)
    disk.write_bytes(payload.MAGIC + struct.pack("<QQ", len(head), len(content)) + head + content)
    monkeypatch.setattr(fcntl, "ioctl", lambda *words: 0)  # BLKFLSBUF is for block devices
    labd.op_payload({"device": str(disk)}, cast(labd.Port, None))
    assert (target / "a/big").read_bytes() == big
    assert (target / "a/empty").read_bytes() == b""
    assert (target / "run").stat().st_mode & 0o777 == 0o755


def test_shype_stays_if_nobody_changed_it_and_is_written_anew_if_somebody_did(
    tmp_path: Path, initrd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, target = tmp_path / "disk", tmp_path / "dom0"
    monkeypatch.setattr(labd, "PACKAGE", f"{target}/")
    monkeypatch.setattr(labd, "DIGEST", f"{target}/.digest")
    monkeypatch.setattr(fcntl, "ioctl", lambda *words: 0)  # BLKFLSBUF is for block devices
    forgotten: list[bool] = []
    monkeypatch.setattr(labd.WARM, "forget", lambda: forgotten.append(True))

    def given(digest: bytes, code: bytes, **how: bool) -> tuple[bytes, int]:
        files = {f"{target}/.digest": digest, f"{target}/a.py": code, f"{tmp_path}/file": code}
        head = json.dumps([(name, 0o644, len(data)) for name, data in files.items()]).encode()
        body = b"".join(files.values())
        disk.write_bytes(payload.MAGIC + struct.pack("<QQ", len(head), len(body)) + head + body)
        labd.op_payload({"device": str(disk), **how}, cast(labd.Port, None))
        assert (tmp_path / "file").read_bytes() == code
        return (target / "a.py").read_bytes(), len(forgotten)

    assert given(b"1", b"old", keep=True) == (b"old", 1), "there is none yet"
    (target / "left.py").write_bytes(b"removed since")
    assert given(b"1", b"changed", keep=True) == (b"old", 1)
    assert given(b"2", b"newer", keep=True) == (b"newer", 2)
    assert not (target / "left.py").exists()
    assert given(b"2", b"newest") == (b"newest", 3), "somebody may have changed it here"


def test_byte_code_is_what_python_would_use(tmp_path: Path) -> None:
    for name, data in payload.package():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-v", "-S", "-c", "import shype.base.errors"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=True)
    loaded = [line for line in done.stderr.splitlines() if "matches" in line and "errors" in line]
    assert loaded, "the shipped byte code was not used"


def test_too_big(tmp_path: Path, initrd: Path) -> None:
    with pytest.raises(BadInput) as caught:
        payload.write(tmp_path / "disk", guest_initrd=initrd,
                      files={"/big": bytes((recipe.PAYLOAD_MIB << 20) + 1)})
    assert caught.value.id == "lab.payload-too-big"


def test_relative_path(tmp_path: Path, initrd: Path) -> None:
    with pytest.raises(BadInput) as caught:
        payload.write(tmp_path / "disk", guest_initrd=initrd, files={"x": b""})
    assert caught.value.id == "lab.bad-path"
