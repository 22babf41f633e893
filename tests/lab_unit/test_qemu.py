"""QEMU's command line, and keys of snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.lab import qemu, snapshot

MACHINE = qemu.Machine(
    xen="/x/xen", vmlinux="/x/vmlinux", dom0_initrd="/x/initrd", image="/x/dom0.img",
    policy="/x/policy", flask="enforcing", memory=2048, dom0_memory=768, icount=False,
    xen_args=(), dom0_args=(),
)


def test_the_policy_is_a_boot_module() -> None:
    words = MACHINE.command(incoming=None)
    modules = words[words.index("-initrd") + 1].split(",")
    assert modules == ["/x/vmlinux console=hvc0 quiet norandmaps", "/x/initrd", "/x/policy"]
    assert "flask=enforcing" in MACHINE.xen_line()
    assert "kvm" not in " ".join(words)


def test_paths_in_the_module_list_are_quoted() -> None:
    words = replace(MACHINE, policy="/a,b/policy").command(incoming=None)
    assert words[words.index("-initrd") + 1].endswith(",/a,,b/policy")
    with pytest.raises(Unavailable) as caught:
        replace(MACHINE, policy="/a b/policy").command(incoming=None)
    assert caught.value.id == "lab.path-blank"


def test_incoming_path_is_quoted_for_the_shell() -> None:
    words = MACHINE.command(incoming=Path("/a b/memory"))
    assert words[words.index("-incoming") + 1] == "exec:cat '/a b/memory'"


def test_every_part_of_the_machine_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "version", lambda: "QEMU emulator version 7")
    keys = {snapshot.key(MACHINE)}
    for change in (
        {"xen": "/y/xen"}, {"vmlinux": "/y"}, {"dom0_initrd": "/y"}, {"image": "/y"},
        {"policy": None}, {"flask": "permissive"}, {"memory": 4096}, {"dom0_memory": 512},
        {"icount": True}, {"xen_args": ("x",)}, {"dom0_args": ("x",)},
    ):
        keys.add(snapshot.key(replace(MACHINE, **change)))
    monkeypatch.setattr(qemu, "version", lambda: "QEMU emulator version 8")
    keys.add(snapshot.key(MACHINE))
    assert len(keys) == 13


def test_modules_are_named_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, same, other = (snapshot.module(data) for data in (b"1", b"1", b"2"))
    assert one == same
    assert one != other
    one.write_bytes(b"damaged")
    assert snapshot.module(b"1").read_bytes() == b"1"
