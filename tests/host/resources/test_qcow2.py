"""Our reader of qcow2 headers beside qemu-img's, and against what nobody wrote as an image."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.host.resources.qcow2 import Header, chain, header


def create(path: Path, *words: str) -> None:
    """Make an image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "1M"], check=True)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("backing", [None, "raw", "qcow2"])
def test_as_qemu_img_reads_it(tmp_path: Path, compat: str, backing: str | None) -> None:
    base, image = tmp_path / "a base", tmp_path / "image"
    words: list[str] = []
    if backing is not None:
        subprocess.run(["qemu-img", "create", "-q", "-f", backing, str(base), "1M"], check=True)
        words = ["-b", "a base", "-F", backing]
    create(image, "-o", f"compat={compat}", *words)
    told = json.loads(subprocess.run(["qemu-img", "info", "--output=json", str(image)], check=True,
                                     capture_output=True).stdout)
    found = header(image.read_bytes(), "image")
    assert found.backing == told.get("backing-filename")
    assert found.backing_format == told.get("backing-filename-format")
    assert [m.path for m in chain(str(image))] == [str(image), *([str(base)] if backing else [])]
    assert [m.top for m in chain(str(image))] == [True, *([False] if backing else [])]


def test_an_external_data_file(tmp_path: Path) -> None:
    create(tmp_path / "image", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on")
    assert header((tmp_path / "image").read_bytes(), "image").data_file == str(tmp_path / "data")
    assert [(m.path, m.top) for m in chain(str(tmp_path / "image"))] == [
        (str(tmp_path / "image"), True), (str(tmp_path / "data"), True)]


def test_chains_that_cannot_be_judged(tmp_path: Path) -> None:
    a, b, raw = (tmp_path / name for name in ("a", "b", "raw"))
    raw.write_bytes(b"\0" * 65536)
    create(a, "-u", "-b", str(b), "-F", "qcow2")
    create(b, "-u", "-b", str(a), "-F", "qcow2")
    create(tmp_path / "nbd", "-u", "-b", "nbd://host/x", "-F", "raw")
    create(tmp_path / "json", "-u", "-b", 'json:{"driver":"file","filename":"/etc/shadow"}',
           "-F", "raw")
    create(tmp_path / "vmdk", "-u", "-b", str(raw), "-F", "vmdk")
    create(tmp_path / "probed", "-u", "-b", str(raw), "-F", "raw")
    data = (tmp_path / "probed").read_bytes()
    # the extension that states the format, made one that readers skip: QEMU would probe
    (tmp_path / "probed").write_bytes(data.replace(struct.pack(">I", 0xE2792ACA), b"\x11" * 4, 1))
    for name in ("a", "nbd", "json", "vmdk", "probed", "raw"):
        with pytest.raises(BadInput) as caught:
            chain(str(tmp_path / name))
        assert caught.value.id == "disk.image", name
    create(tmp_path / "gone", "-u", "-b", str(tmp_path / "none"), "-F", "raw")
    with pytest.raises(BadInput) as caught:
        chain(str(tmp_path / "gone"))
    assert caught.value.id == "disk.missing"


_EXTENSIONS = st.lists(st.tuples(st.sampled_from([0xE2792ACA, 0x44415441, 0x6803F857, 7]),
                                 st.text(alphabet="raw/.x", max_size=20)), max_size=4,
                       unique_by=lambda one: one[0])


@given(_EXTENSIONS, st.one_of(st.none(), st.text(min_size=1, max_size=40)), st.booleans())
@settings(max_examples=60)
def test_what_is_written_is_read(
    extensions: list[tuple[int, str]], backing: str | None, external: bool
) -> None:
    made = b""
    for kind, text in extensions:
        raw = text.encode()
        made += struct.pack(">II", kind, len(raw)) + raw + b"\0" * (-len(raw) % 8)
    made += struct.pack(">II", 0, 0)
    name = (backing or "").encode()
    place = 104 + len(made) if backing else 0
    data = struct.pack(">4sIQI", b"QFI\xfb", 3, place, len(name)).ljust(72, b"\0")
    data += struct.pack(">QQQII", 4 if external else 0, 0, 0, 4, 104) + made + name
    texts = dict(extensions)
    if external and 0x44415441 not in texts:
        with pytest.raises(BadInput):
            header(data, "x")
        return
    assert header(data, "x") == Header(
        backing, texts.get(0xE2792ACA), texts.get(0x44415441) if external else None)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=100)
def test_any_bytes_are_an_image_or_an_error(data: bytes, magic: bool) -> None:
    with contextlib.suppress(BadInput):  # anything else fails the test
        header((b"QFI\xfb\0\0\0\3" if magic else b"") + data, "x")
