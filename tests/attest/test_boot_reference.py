"""Reference values of boots: what they match, and their file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.attest.boot import Kind
from shype.attest.boot_reference import BootReference, dumps, loads
from shype.base.errors import BadInput
from tests.attest.boot_tree import FIRST, SECOND, machine, tree


@pytest.fixture(name="reference")
def reference_(tmp_path: Path) -> BootReference:
    return BootReference.of(machine(tree(tmp_path)).ways(FIRST, b"module", [SECOND]),
                            policy="banks", version="1.0", bundle=FIRST * 4, module="ab" * 32)


def test_it_is_the_same_after_writing_and_reading(reference: BootReference) -> None:
    assert loads(dumps([reference]), "x") == (reference,)


def test_registers_are_matched_all_together(reference: BootReference) -> None:
    good, trial = ({pcr: bytes.fromhex(value) for pcr, value in boot.pcrs.items()}
                   for boot in reference.boots[:2])
    boot = reference.matching({**good, 0: b"firmware's own"})
    assert boot is not None
    assert boot.kind is Kind.GOOD
    assert reference.wrong(good | {4: bytes(32)}) == (4,)
    assert reference.wrong({}) == (4, 8, 9)
    mixed = {**good, 8: trial[8]}  # each of an acceptable boot, and not of the same
    assert reference.matching(mixed) is None
    assert reference.wrong(mixed) == (4, 8, 9)


def test_what_a_host_booted_instead_is_named(reference: BootReference, tmp_path: Path) -> None:
    other = tree(tmp_path / "other", xen_args="flask=permissive")
    told = reference.differences(machine(other).ways(FIRST, b"worse")[0].events)
    assert f"PCR 9: /shype/{FIRST}.bin" in told
    assert any("kernel_cmdline" in one and "flask=permissive" in one for one in told)
    assert not any("initrd" in one and one.startswith("PCR 9") for one in told)


@pytest.mark.parametrize("damage", [
    lambda value: value.pop("boots"), lambda value: value.update(boots=[]),
    lambda value: value.update(format=2), lambda value: value.update(version=1),
    lambda value: value["boots"][0]["pcrs"].pop("9"),
    lambda value: value["boots"][0]["pcrs"].update({"9": "00"}),
    lambda value: value["boots"][0].update(kind="any"),
    lambda value: value["boots"][0].update(other="../x"),
    lambda value: value["steps"].append([1]),
])
def test_a_damaged_file_is_refused(reference: BootReference, damage: object) -> None:
    value = json.loads(dumps([reference]))
    damage(value["boot"][0])  # type: ignore[operator]
    with pytest.raises(BadInput) as caught:
        loads(json.dumps(value).encode(), "x")
    assert caught.value.id == "reference.corrupt"


def test_other_files_are_refused() -> None:
    for text in (b"", b"[]", b"{}", b'{"boot": 1}', b"[" * 100_000):
        with pytest.raises(BadInput):
            loads(text, "x")
