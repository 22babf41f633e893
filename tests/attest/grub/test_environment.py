"""GRUB's environment block, changed as GRUB changes it: against grub-editenv, its own program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.attest.grub import environment
from shype.base.errors import BadInput
from shype.host.install import grubenv

NAMES = ("shype_good", "shype_trial", "shype_tried", "other")


@settings(max_examples=40, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(NAMES), st.text("0123456789abcdef", max_size=20)),
                        max_size=6))
def test_it_is_what_grub_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("env") / "boot.env"
    block = grubenv.dumps({grubenv.GOOD: "12", grubenv.TRIAL: "ab"})
    path.write_bytes(block)
    for name, value in changes:
        subprocess.run(["grub-editenv", str(path), "set", f"{name}={value}"], check=True)
        block = environment.changed(block, name, value)
        assert environment.value(block, name) == value
    assert block == path.read_bytes()


def test_what_shype_writes_is_what_grub_writes(tmp_path: Path) -> None:
    before = grubenv.dumps({grubenv.GOOD: "12", grubenv.TRIAL: "ab", grubenv.TRIED: ""})
    after = environment.changed(environment.changed(before, "shype_trial", ""), "shype_tried", "ab")
    assert after == grubenv.dumps({grubenv.GOOD: "12", grubenv.TRIAL: "", grubenv.TRIED: "ab"})


def test_a_full_or_foreign_block_is_refused() -> None:
    block = grubenv.dumps({})
    with pytest.raises(BadInput):
        environment.changed(block, "x", "y" * 1024)
    for other in (b"", b"x" * 1024, block.replace(b"####", b"a\\\nb", 1)):
        with pytest.raises(BadInput):
            environment.value(other, "x")
    assert environment.value(block, "x") is None
