"""Files that are no policy files: each is a finding, none hangs, none is read whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shype.policy import envelope
from shype.policy.findings import Id
from shype.policy.loader import check, load
from shype.policy.reading import SIZE_LIMIT, read
from shype.policy.source import Finding, PolicyInvalid, Span
from tests.host.builders import bundle
from tests.policy.good_policies import GOOD
from tests.signing import AUTHOR, sealed


def _only(path: Path) -> Finding:
    policy, findings = check(path)
    assert policy is None
    assert len(findings) == 1
    assert findings[0].fix
    return findings[0]


def test_a_missing_file(tmp_path: Path) -> None:
    finding = _only(tmp_path / "none.yaml")
    assert finding.id == Id.FILE_MISSING
    assert finding.span == Span(str(tmp_path / "none.yaml"), 1, 1)


def test_load_raises_with_all_findings(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        load(tmp_path / "none.yaml")
    assert caught.value.id == "policy.invalid"
    assert caught.value.exit_code == 2
    assert [f.id for f in caught.value.findings] == [Id.FILE_MISSING]


def test_a_directory(tmp_path: Path) -> None:
    assert _only(tmp_path).id == Id.FILE_DIRECTORY


def test_a_compiled_bundle_is_told_once_and_not_read_as_yaml(tmp_path: Path) -> None:
    unpacked = bundle(tmp_path).path
    (tmp_path / "a.yaml").write_bytes(sealed(unpacked, AUTHOR))
    payload = envelope.loads((tmp_path / "a.yaml").read_bytes()).payload
    (tmp_path / "b.yaml").write_bytes(payload)
    (tmp_path / "c.yaml").write_bytes(payload + b" " * SIZE_LIMIT)
    for path in (*sorted(tmp_path.glob("?.yaml")), unpacked, unpacked / "policy.json",
                 unpacked / "manifest.json"):
        finding = _only(path)
        assert finding.id == Id.FILE_BUNDLE
        assert f"use `shype bundle show {path}`" in finding.fix


def test_a_policy_in_json_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text('{"shype": 1}')
    assert {f.id for f in check(path)[1]} == {Id.KEY_MISSING}


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert _only(tmp_path / "fifo").id == Id.FILE_NOT_REGULAR


def test_a_device_and_a_socket(tmp_path: Path) -> None:
    assert _only(Path("/dev/zero")).id == Id.FILE_NOT_REGULAR
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert _only(tmp_path / "socket").id == Id.FILE_NOT_REGULAR


def test_an_unreadable_file(tmp_path: Path) -> None:
    """As another user if the tests run as root, whom no mode stops."""
    path = tmp_path / "secret.yaml"
    path.write_text(GOOD, encoding="utf-8")
    path.chmod(0)
    if os.geteuid() != 0:
        assert _only(path).id == Id.FILE_UNREADABLE
        return
    program = (
        "import os, sys, pathlib; from shype.policy.reading import read; "
        "handle = os.open(sys.argv[1], os.O_PATH); os.setgid(65534); os.setuid(65534); "
        "print(read(pathlib.Path('/proc/self/fd') / str(handle)).id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == Id.FILE_UNREADABLE


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_impossible_paths(name: str) -> None:
    assert _only(Path(name)).id == Id.FILE_UNREADABLE


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert _only(tmp_path / "loop").id == Id.FILE_UNREADABLE


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    begun = time.monotonic()
    assert _only(path).id == Id.FILE_TOO_LARGE
    assert time.monotonic() - begun < 1


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(GOOD + "#" * (SIZE_LIMIT - len(GOOD)), encoding="utf-8")
    assert isinstance(read(path), str)
    with path.open("a", encoding="utf-8") as file:
        file.write("#")
    assert _only(path).id == Id.FILE_TOO_LARGE


@pytest.mark.parametrize(
    ("data", "id", "line", "column"),
    [
        (b"", Id.FILE_EMPTY, 1, 1),
        (b"\xef\xbb\xbf" + GOOD.encode(), Id.FILE_BOM, 1, 1),
        (GOOD.encode("utf-16"), Id.FILE_ENCODING, 1, 1),
        (GOOD.encode("utf-16-le"), Id.FILE_ENCODING, 1, 1),
        (GOOD.encode("utf-16-be"), Id.FILE_ENCODING, 1, 1),
        (GOOD.encode("utf-32"), Id.FILE_ENCODING, 1, 1),
        ("shype: 1\n# café\n".encode("latin-1"), Id.FILE_ENCODING, 2, 6),
        (b"shype: 1\nab\xc0\x80", Id.FILE_ENCODING, 2, 3),
        (b"shype: 1\n\0", Id.FILE_CONTROL, 2, 1),
        ("# ä\x7f".encode(), Id.FILE_CONTROL, 1, 4),
        (b"a\r\nb\rc\n\x08", Id.FILE_CONTROL, 4, 1),
        ("# \ufffe".encode(), Id.FILE_CONTROL, 1, 3),
    ],
)
def test_what_is_not_plain_utf_8(
    tmp_path: Path, data: bytes, id: Id, line: int, column: int
) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    finding = _only(path)
    assert (finding.id, finding.span.line, finding.span.column) == (id, line, column)


def test_a_path_that_is_not_utf_8_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.yaml")
    path.write_text(GOOD, encoding="utf-8")
    policy, _ = check(path)
    assert policy is not None
    assert policy.source.endswith("caf\\udce9.yaml")
    policy.source.encode()
