"""Unpacking kernels and ordering modules, on files made here."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.lab import kernel


def elf(segment: bytes, memory: int, tail: bytes = b"sections") -> bytes:
    """A minimal ELF64 file with one PT_LOAD segment at 0x1000 and something after it."""
    head = bytearray(0x1000)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<QQ", head, 0x20, 64, 0x1000 + len(segment))
    struct.pack_into("<HHHHH", head, 0x36, 56, 1, 64, 3, 2)
    struct.pack_into("<IIQQQQQQ", head, 64, 1, 5, 0x1000, 0, 0, len(segment), memory, 0x1000)
    return bytes(head) + segment + tail


def bzimage(payload: bytes) -> bytes:
    """A bzImage with 4 setup sectors and ``payload`` 100 bytes into the protected-mode code."""
    head = bytearray(5 * 512 + 100)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + payload + b"rest of the image"


def packed(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32) + struct.pack("<I", len(data))


def test_unpack_finds_the_elf() -> None:
    original = elf(b"code" * 1024, 8192)
    assert kernel.unpack(bzimage(packed(original))) == kernel.trim(original)


@pytest.mark.parametrize("image", [
    b"MZ" + bytes(4096),
    bzimage(b"\x1f\x8bgzip"),
    bzimage(lzma.compress(elf(b"x", 1), check=lzma.CHECK_CRC32) + struct.pack("<I", 7)),
    bzimage(packed(b"not an ELF file")),
])
def test_unpack_refuses_what_it_does_not_know(image: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        kernel.unpack(image)
    assert caught.value.id == "lab.kernel-format"


def test_trim_cuts_zeros_and_sections_only() -> None:
    data = b"\x01" * 5000
    short = kernel.trim(elf(data + bytes(100_000), 200_000))
    assert len(short) == 0x1000 + 8192
    offset, _, _, length, memory = struct.unpack_from("<QQQQQ", short, 64 + 8)
    assert (offset, length, memory) == (0x1000, 8192, 200_000)
    assert short[0x1000 : 0x1000 + 5000] == data
    assert struct.unpack_from("<Q", short, 0x28) == (0,), "no section table"
    assert struct.unpack_from("<HHH", short, 0x3A) == (64, 0, 0)


def test_trim_keeps_a_full_segment() -> None:
    assert len(kernel.trim(elf(b"\x01" * 5000, 5000))) == 0x1000 + 5000


def module(tree: Path, name: str, depends: str) -> None:
    info = f"\0license=GPL\0depends={depends}\0".encode()
    (tree / f"{name}.ko").write_bytes(b"\x7fELF.." + info)


def test_loading_order_puts_dependencies_first(tmp_path: Path) -> None:
    module(tmp_path, "a-top", "b_mid,c")
    module(tmp_path, "b-mid", "c")
    module(tmp_path, "c", "")
    module(tmp_path, "d", "")
    order = kernel.loading_order(["a-top", "c"], kernel.find_modules(tmp_path))
    assert [path.stem for path in order] == ["c", "b-mid", "a-top"]


def test_loading_order_names_a_missing_module(tmp_path: Path) -> None:
    module(tmp_path, "a", "gone")
    with pytest.raises(Unavailable, match="gone"):
        kernel.loading_order(["a"], kernel.find_modules(tmp_path))
