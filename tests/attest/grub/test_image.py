"""GRUB as an EFI program: made by grub-mkimage, and read."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.attest.grub import image
from shype.base.errors import BadInput

GRUB = Path("/usr/lib/grub/x86_64-efi")


@pytest.fixture(scope="module", name="program")
def program_(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    work = tmp_path_factory.mktemp("image")
    (work / "early.cfg").write_text("set a=b\nconfigfile $prefix/grub.cfg\n")
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-o", work / "x.efi", "-p", "/grub", "-c",
                    work / "early.cfg", "tpm", "multiboot2"], check=True)
    return (work / "x.efi").read_bytes()


def test_modules_and_configuration(program: bytes) -> None:
    found = image.read(program, "x.efi")
    assert found.config == "set a=b\nconfigfile $prefix/grub.cfg\n"
    assert {"tpm", "multiboot2", "boot", "relocator"} <= found.modules  # what they need as well
    assert "regexp" not in found.modules


def test_the_digest_leaves_out_check_sum_and_signatures(program: bytes) -> None:
    at = int.from_bytes(program[0x3c:0x40], "little") + 24
    summed = program[:at + 64] + b"\x12\x34\x56\x78" + program[at + 68:]
    assert image.read(summed, "x").digest == image.read(program, "x").digest
    changed = program[:-1] + bytes([program[-1] ^ 1])
    with contextlib.suppress(BadInput):
        assert image.read(changed, "x").digest != image.read(program, "x").digest
    directory = at + 112 + 32
    size = len(program).to_bytes(4, "little") + (8).to_bytes(4, "little")
    signed = program[:directory] + size + program[directory + 8:] + b"8 bytes."
    assert image.read(signed, "x").digest == image.read(program, "x").digest


def test_a_module_says_what_it_needs() -> None:
    assert image.module((GRUB / "all_video.mod").read_bytes()) == (
        "all_video", ("efi_gop", "efi_uga", "video_bochs", "video_cirrus"))
    assert image.module((GRUB / "true.mod").read_bytes()) == ("true", ())


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_program_is_read_or_refused(program: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 0x600))
    piece = data.draw(st.binary(min_size=1, max_size=8))
    end = data.draw(st.integers(0, len(program)))
    damaged = program[:at] + piece + program[at + len(piece):end]
    with contextlib.suppress(BadInput):
        image.read(damaged, "x")
