"""Which label a VM gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.hypervisor import VmConfig
from shype.host.labeling import label_for
from tests.host.builders import BANKS, bundle, context

UUID = "6f0c2d8e-3f57-4b0f-9a0c-6a1f5a4f2b11"
WITH_UUID = BANKS.replace("market: market-data}", f"market: market-data, {UUID}: bank-b-db}}")
WITH_UNLABELED = BANKS.replace("host: {", "  unlabeled: {}\nhost: {")


@pytest.mark.parametrize(("text", "vm", "label", "notices"), [
    (BANKS, VmConfig("a-db", "", None, None), "bank-a-db", 0),
    (BANKS, VmConfig("a-db", "", "bank-a-db", None), "bank-a-db", 0),
    (BANKS, VmConfig("a-db", "", "bank-b-db", None), "bank-a-db", 1),
    (BANKS, VmConfig("x", "", "bank-b-db", None), "bank-b-db", 0),
    (BANKS, VmConfig("x", "", context("l_bank_b_db_t"), None), "bank-b-db", 0),
    (BANKS, VmConfig("x", "", "manager", None), "manager", 0),  # refused later: auth.reserved
    (WITH_UUID, VmConfig("x", UUID, None, None), "bank-b-db", 0),
    (WITH_UUID, VmConfig("x", UUID.upper(), None, None), "bank-b-db", 0),
    (WITH_UNLABELED, VmConfig("x", "", None, None), "unlabeled", 1),
])
def test_label(tmp_path: Path, text: str, vm: VmConfig, label: str, notices: int) -> None:
    made = bundle(tmp_path, text)
    found = label_for(vm, made.policy, made.manifest)
    assert (found.label, found.refusal, len(found.notices)) == (label, None, notices)


@pytest.mark.parametrize(("text", "vm", "id"), [
    (BANKS, VmConfig("x", UUID, None, None), "label.none"),
    (BANKS, VmConfig("a-db", "", "bank-a-db", "bank-b-db"), "label.relabel"),
    (WITH_UNLABELED, VmConfig("a-db", "", None, "bank-b-db"), "label.relabel"),
    (BANKS, VmConfig("a-db", "", "bank-a-db", None, "bank-a-db"), "label.device-model"),
])
def test_refusal(tmp_path: Path, text: str, vm: VmConfig, id: str) -> None:
    made = bundle(tmp_path, text)
    found = label_for(vm, made.policy, made.manifest)
    assert found.label is None
    assert found.refusal is not None
    assert (found.refusal.id, found.refusal.permitted) == (id, False)


@pytest.mark.parametrize(("vm", "id"), [
    (VmConfig("x", "", "bank-c-db", None), "label.unknown"),
    (VmConfig("x", "", "u:r:l_gone_t:s0", None), "label.unknown"),
    (VmConfig("x", "", "u:r:l_bank_a_db_t:s1", None), "label.unknown"),
    (VmConfig("a-db", UUID, None, None), "label.ambiguous"),
])
def test_error(tmp_path: Path, vm: VmConfig, id: str) -> None:
    made = bundle(tmp_path, WITH_UUID)
    with pytest.raises(BadInput) as caught:
        label_for(vm, made.policy, made.manifest)
    assert caught.value.id == id
