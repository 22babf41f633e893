"""What a boot measures, predicted: against what firmware's own event log has said in the lab.

``grub/data`` are the descriptions (register, text) of those logs, OVMF and GRUB 2.06; digests and
registers of real boots are compared in tests/lab/test_measured.py.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from shype.attest.boot import COMPUTED, Kind, Machine, found
from shype.attest.event_log import Event
from shype.attest.grub.image import Image
from shype.base.errors import BadInput
from shype.lab import grub
from tests.attest.boot_tree import DEVICE, FIRST, SCRIPT, SECOND, machine, tree

DATA = Path(__file__).parent / "grub/data"


def logged(name: str) -> list[tuple[int, str]]:
    rows = (line.partition(" ") for line in (DATA / f"{name}.txt").read_text().splitlines())
    return [(int(pcr), ast.literal_eval(text)) for pcr, _, text in rows]


def described(events: tuple[Event, ...]) -> list[tuple[int, str]]:
    return [(event.pcr, event.data.rstrip(b"\0").decode()) for event in events
            if event.pcr != 4]


@pytest.mark.parametrize(("log", "kind", "policy", "other"), [
    ("trial", Kind.TRIAL, FIRST, None),
    ("good", Kind.GOOD, FIRST, None),
    ("trial-after-good", Kind.TRIAL, SECOND, FIRST),
    ("good", Kind.FALLEN_BACK, FIRST, SECOND),
])
def test_a_boot_is_gone_through_as_firmware_has_logged_it(
    log: str, kind: Kind, policy: str, other: str | None, tmp_path: Path
) -> None:
    ways = machine(tree(tmp_path)).ways(policy, b"module", [FIRST, SECOND])
    way, = [way for way in ways if (way.kind, way.other) == (kind, other)]
    assert described(way.events) == logged(log)


def test_every_way_leaves_other_registers(tmp_path: Path) -> None:
    boot = machine(tree(tmp_path))
    ways = [way for policy in (FIRST, SECOND)
            for way in boot.ways(policy, policy.encode(), [FIRST, SECOND])]
    assert len(ways) == 8
    for way in ways:
        assert found(ways, way.pcrs) is way
        assert sorted(way.pcrs) == list(COMPUTED)
    assert found(ways, {**ways[0].pcrs, 9: bytes(32)}) is None
    assert found(ways, {}) is None


@pytest.mark.parametrize(("change", "wrong"), [
    ({"xen_args": "flask=permissive"}, {8, 9}),  # 9: the line is in custom.cfg, a file
    ({"kernel_args": "console=hvc0 quiet init=/bin/sh"}, {8, 9}),
    ({"file": "xen-flask"}, {9}), ({"file": "vmlinuz-lab"}, {9}), ({"file": "initrd.img-lab"}, {9}),
    ({"file": "grub/grub.cfg"}, {9}),
    ({"module": b"another policy"}, {9}),
    ({"program": Image(b"x" * 32, machine(Path()).programs[0].modules, SCRIPT)}, {4}),
])
def test_each_part_of_a_boot_is_in_a_register(
    change: dict[str, object], wrong: set[int], tmp_path: Path
) -> None:
    good = machine(tree(tmp_path / "good")).ways(FIRST, b"module")[0].pcrs
    lines = {name: value for name, value in change.items() if name.endswith("_args")}
    boot = tree(tmp_path / "other", **lines)  # type: ignore[arg-type]
    if "file" in change:
        with (boot / str(change["file"])).open("a") as file:
            file.write("\n# changed\n")
    program = change.get("program", machine(boot).programs[0])
    assert isinstance(program, Image)
    module = change.get("module", b"module")
    assert isinstance(module, bytes)
    other = Machine(boot, (program,), DEVICE).ways(FIRST, module)[0].pcrs
    assert {pcr for pcr in COMPUTED if good[pcr] != other[pcr]} == wrong


def test_a_boot_directory_on_the_root_file_system(tmp_path: Path) -> None:
    boot = tree(tmp_path, separate=False)
    # As grub-install writes it.
    script = "search.fs_uuid 5a7e-01 root hd0,gpt2 \nset prefix=($root)'/boot/grub'\n"
    events = machine(boot, script).ways(FIRST, b"module")[0].events
    assert (9, "/boot/xen-flask") in described(events)
    assert (9, f"({DEVICE})/boot/grub/grub.cfg") in described(events)


@pytest.mark.parametrize(("file", "text", "id"), [
    ("grub/grub.cfg", grub.CONFIG + "for x in a b; do true; done\n", "reference.grub-script"),
    ("grub/grub.cfg", grub.CONFIG + "loadfont unicode\n", "reference.grub-script"),
    ("grub/grub.cfg", "set timeout=0\n", "reference.grub-script"),  # no entry at all
    ("grub/grub.cfg", grub.CONFIG + 'set root="hd9,gpt1"\nsource /x\n', "reference.grub-script"),
    ("xen-flask", None, "reference.no-file"),
    ("grub/custom.cfg", None, "reference.no-entry"),
])
def test_what_cannot_be_predicted_is_refused(
    file: str, text: str | None, id: str, tmp_path: Path
) -> None:
    boot = tree(tmp_path)
    if text is None:
        (boot / file).unlink()
    else:
        (boot / file).write_text(text)
    with pytest.raises(BadInput) as caught:
        machine(boot).ways(FIRST, b"module")
    assert caught.value.id == id


@pytest.mark.parametrize(("modules", "config", "id"), [
    (grub.MODULES, SCRIPT, "reference.no-tpm"),
    ((*grub.MODULES, "tpm"), "", "reference.efi-config"),
    ((*grub.MODULES, "tpm"), "normal (memdisk)/grub.cfg\n", "reference.efi-config"),
    ((*grub.MODULES, "tpm"), SCRIPT.replace("/grub\n", "/boot/grub\n"), "reference.efi-config"),
    ((*grub.MODULES, "tpm"), SCRIPT + "set x=y\n", "reference.efi-config"),
])
def test_a_grub_that_measures_nothing_or_more_is_refused(
    modules: tuple[str, ...], config: str, id: str, tmp_path: Path
) -> None:
    program = Image(bytes(32), frozenset(modules), config)
    with pytest.raises(BadInput) as caught:
        Machine(tree(tmp_path), (program,), DEVICE).ways(FIRST, b"module")
    assert caught.value.id == id
