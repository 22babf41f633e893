"""Locked labels: what builds a VM is in its launch window only, and validation insists on it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shype.compile.flask import cil, tables, verify
from shype.compile.flask.build import build
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary, read
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.compile.policies import BANKS
from tests.compile.test_validation import DIGEST, compiled

XEN = tables.load("xen-4.17")
DB, DESK = LabelName("bank-a-db"), LabelName("bank-a-desk")
DOM0, LOCKED, OPEN = "u:r:dom0_t:s0", "u:r:l_bank_a_db_t:s0", "u:r:l_bank_a_desk_t:s0"
#: What would let dom0 read or change what is in a VM.
REACH = {
    "mmu": "map_read map_write adjust memorymap pinpage mmuext_op pageinfo stat",
    "domain": "setvcpucontext getvcpucontext getvcpuinfo setdomainmaxmem max_vcpus resume create",
    "domain2": "resource_map set_cpu_policy get_cpu_policy settsc",
    "hvm": "sethvmc gethvmc setparam getparam dm",
    "shadow": "disable logdirty",
}
#: What devices, console, `xl unpause`, `xl list` and `xl destroy` need.
SERVICE = {
    "grant": "map_read map_write copy unmap", "domain": "unpause getdomaininfo destroy pause",
}


def locking(policy: Policy, *labels: LabelName) -> Policy:
    return replace(policy, labels={
        name: replace(label, locked=name in labels) for name, label in policy.labels.items()
    })


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    out = tmp_path_factory.mktemp("locked") / "bundle"
    build(locking(BANKS, DB), target="xen-4.17", out=out)
    return read((out / "policy.bin").read_bytes())


def held(binary: Binary, target: str, cls: str, **booleans: bool) -> frozenset[str]:
    """What dom0 has on ``target``; booleans that are not named are false."""
    values = {**dict.fromkeys(binary.booleans, False), **booleans}
    return binary.classes[cls].names(Answers(binary, values).allowed(DOM0, target, cls))


def test_dom0_reaches_into_it_in_its_own_window_only(binary: Binary) -> None:
    for cls, words in REACH.items():
        wanted = frozenset(words.split())
        assert not held(binary, LOCKED, cls) & wanted
        assert wanted <= held(binary, LOCKED, cls, win_en=True)  # the first label's window
        assert not held(binary, LOCKED, cls, win_en=True, win_b0=True) & wanted  # another's
        assert not held(binary, LOCKED, cls, win_en=True, run_bank_b=True) & wanted  # the wall
        assert wanted - {"create"} <= held(binary, OPEN, cls)
    for cls, words in SERVICE.items():
        assert frozenset(words.split()) <= held(binary, LOCKED, cls)


def test_a_policy_whose_labels_are_all_locked_compiles(tmp_path: Path) -> None:
    everything = locking(BANKS, *(label.name for label in BANKS.guests))
    build(everything, target="xen-4.17", out=tmp_path / "bundle")
    assert "unlocked" not in (tmp_path / "bundle/policy.cil").read_text()


def test_without_locks_nothing_has_changed() -> None:
    assert "unlocked" not in cil.generate(BANKS, XEN)


@pytest.mark.parametrize(("line", "report"), [
    ("(allow dom0_t l_bank_a_db_t (mmu (map_read)))", "manager -> bank-a-db.*map_read"),
    ("(booleanif run_bank_b (true (allow dom0_t l_bank_a_db_t (mmu (map_read)))))",
     "manager -> bank-a-db.*map_read.*iff"),
    ("(booleanif win_en (true (allow dom0_t l_bank_a_db_t (mmu (physmap)))))",
     "manager -> bank-a-db.*physmap.*never"),
    ("(booleanif win_en (true (allow dom0_t l_market_data_t (mmu (map_read)))))",
     "manager -> market-data.*map_read.*never"),
])
def test_validation_catches(line: str, report: str, tmp_path: Path) -> None:
    policy = locking(BANKS, DB)
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n{line}\n"
    with pytest.raises(verify.Disagreement) as caught:
        verify.verify(policy, XEN, compiled(text, tmp_path), DIGEST)
    assert any(re.search(report, str(one)) for one in caught.value.mismatches), (
        caught.value.mismatches)


def test_validation_catches_a_lock_that_was_lost(tmp_path: Path) -> None:
    text = cil.generate(locking(BANKS, DB, DESK), XEN) + f"(boolean policy_{DIGEST} false)\n"
    with pytest.raises(verify.Disagreement, match="bank-a-desk"):
        verify.verify(locking(BANKS, DB), XEN, compiled(text, tmp_path), DIGEST)


def test_the_source_says_it(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("""\
shype: 1
policy: {name: p, version: "1.0"}
coalitions: [a]
labels: {boss: {coalitions: all}, vault: {coalitions: [a], locked: true}, plain: {}}
host: {dom0: boss}
""")
    labels = load(tmp_path / "p.yaml").policy.labels
    assert [label.locked for label in labels.values()] == [False, True, False]
