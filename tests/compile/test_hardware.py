"""Physical resources: object contexts, who may use them, and the order the hypervisor needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from shype.base.errors import Internal
from shype.compile.flask import build, cil, reader, tables, verify
from shype.compile.flask.ordering import in_order
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy, Resource, ResourceKind, ResourceLabel
from shype.policy.names import CoalitionName, LabelName, ResourceLabelName
from tests.compile.policies import BANKS, LEVELED, SPAN, at

XEN = tables.load("xen-4.17")
DIGEST = "0" * 64


def resource_label(name: str | None, *coalitions: str, inaccessible: bool = False) -> ResourceLabel:
    return ResourceLabel(
        ResourceLabelName(name) if name else None, frozenset(map(CoalitionName, coalitions)), SPAN,
        inaccessible=inaccessible,
    )


A = resource_label("card", "bank-a")
B = resource_label("other-card", "bank-b")
INLINE = resource_label(None, "market")
NOBODY = resource_label("tpm", inaccessible=True)
DEFAULT = resource_label("unlabeled", "market")
ENTRIES = (
    (ResourceKind.PCI, "0000:03:00.*", A), (ResourceKind.PCI, "0000:03:00.1", B),
    (ResourceKind.IRQ, "3", A), (ResourceKind.IRQ, "9-10", NOBODY),
    (ResourceKind.IOPORT, "0x2f8-0x2ff", A), (ResourceKind.IOPORT, "0x3f8", INLINE),
    # A large range below a small one: secilc writes them the other way round.
    (ResourceKind.MEMORY, "0x100000-0x1fffff", A), (ResourceKind.MEMORY, "0x150000-0x150fff", B),
    (ResourceKind.MEMORY, "0xfed40000-0xfed40fff", NOBODY),
)


def hardware(base: Policy = BANKS, *, unlabeled: bool = False) -> Policy:
    labels = [A, B, NOBODY, *([DEFAULT] if unlabeled else [])]
    return replace(
        base, resources=tuple(Resource(*entry, SPAN) for entry in ENTRIES),
        resource_labels={label.name: label for label in labels if label.name},
    )


def text_of(policy: Policy) -> str:
    return cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"


def validate(text: str, folder: Path, policy: Policy) -> reader.Binary:
    (folder / "p.cil").write_text(text)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    binary = reader.read(folder / "p.bin")
    verify.verify(policy, XEN, binary, DIGEST)
    return binary


@pytest.mark.parametrize("unlabeled", [False, True])
def test_correct_binary_passes(unlabeled: bool, tmp_path: Path) -> None:
    binary = validate(text_of(hardware(unlabeled=unlabeled)), tmp_path,
                      hardware(unlabeled=unlabeled))
    memory = [(o.first, o.last, o.context.type) for o in binary.objects if o.kind == "memory"]
    assert memory == [
        (0x100, 0x14F, "memory_card_t"), (0x150, 0x150, "memory_other_card_t"),
        (0x151, 0x1FF, "memory_card_t"), (0xFED40, 0xFED40, "memory_tpm_t"),
    ]
    uses = {
        (rule.source, rule.target) for rule in binary.allows
        if rule.cls == "resource" and "use_noiommu" in rule.permissions and rule.source != "dom0_t"
    }
    assert not any(target.startswith(("pci_", "device")) for _, target in uses) or unlabeled
    assert not any("tpm" in target for _, target in uses)


@pytest.mark.parametrize("target", tables.shipped())
def test_every_target_with_levels(target: str, tmp_path: Path) -> None:
    """Levels decide about resources too, at compile time."""
    high, low = (
        replace(resource_label(name, "ops"), level=at(rank).low, integrity=at(2, "signed").low)
        for name, rank in (("high-card", 1), ("low-card", 0))
    )
    policy = replace(
        LEVELED, resource_labels={label.name: label for label in (high, low) if label.name},
        resources=(
            Resource(ResourceKind.IRQ, "5", high, SPAN), Resource(ResourceKind.IRQ, "6", low, SPAN),
        ),
    )
    server = SecurityServer(policy)
    assert server.use(LabelName("high"), ResourceKind.IRQ, "5").permitted
    assert not server.use(LabelName("low"), ResourceKind.IRQ, "5").permitted
    xen = tables.load(target)
    (tmp_path / "p.cil").write_text(
        cil.generate(policy, xen) + f"(boolean policy_{DIGEST} false)\n"
    )
    build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    verify.verify(policy, xen, reader.read(tmp_path / "p.bin"), DIGEST)


def _swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, f"the compiler no longer writes {old}"
        return text.replace(old, new)

    return change


def _add(line: str) -> Callable[[str], str]:
    return lambda text: text + line + "\n"


_CARD = "(u r irq_card_t ((s0) (s0)))"
#: What goes wrong, and a regular expression that the report must match.
MUTATIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "an IRQ without its label": (
        _swap(f"(pirqcon 3 {_CARD})\n", ""), r"types"),  # nothing else has the type
    "an IRQ with another's label": (
        _swap("(pirqcon 9 (u r irq_tpm_t", "(pirqcon 9 (u r irq_card_t"),
        r"bank-a-db -> 9, irq.*policy says deny"),
    "a label on an IRQ too many": (_add(f"(pirqcon 4 {_CARD})"), r"bank-a-db -> 4, irq"),
    "a device with another's label": (
        _swap("(pcidevicecon 0x301 (u r pci_other_card_t", "(pcidevicecon 0x301 (u r pci_card_t"),
        r"types"),
    "a range cut short": (
        _swap("(ioportcon (0x2f8 0x2ff)", "(ioportcon (0x2f8 0x2fe)"),
        r"bank-a-db -> 0x2ff, ioport"),
    "a range too long": (
        _swap("(ioportcon (0x2f8 0x2ff)", "(ioportcon (0x2f8 0x300)"),
        r"bank-a-db -> 0x300, ioport"),
    "memory with another's label": (
        _swap("(iomemcon (0x150 0x150) (u r memory_other_card_t",
              "(iomemcon (0x150 0x150) (u r memory_tpm_t"), r"types"),
    "a part of the memory with another's label": (
        _swap("(iomemcon (0x151 0x1ff) (u r memory_card_t",
              "(iomemcon (0x151 0x1ff) (u r memory_other_card_t"),
        r"bank-a-db -> 0x151000, memory.*policy says permit"),
    "a function with another's label": (
        _swap("(pcidevicecon 0x302 (u r pci_card_t", "(pcidevicecon 0x302 (u r pci_other_card_t"),
        r"bank-b-db -> 0000:03:00.2, pci.*policy says deny"),
    "a resource with a VM's type": (
        _swap(_CARD, "(u r l_bank_a_db_t ((s0) (s0)))"), r"a type of its own|types"),
    "a VM with another's resource": (
        _add("(allow l_bank_b_db_t irq_card_t (resource (use_noiommu)))"), r"bank-b-db -> "),
    "a VM that uses what is inaccessible": (
        _add("(allow l_bank_a_db_t memory_tpm_t (resource (use_iommu)))"),
        r"-> 0xfed40000, memory"),
    "a device without an IOMMU": (
        _add("(allow l_bank_a_db_t pci_card_t (resource (use_noiommu)))"), r"use_noiommu"),
    "a VM with what no entry names": (
        _add("(allow label irq_t (resource (use_noiommu)))"), r"-> irq_t|-> 0, irq"),
    "dom0 gives away what is inaccessible": (
        _add("(allow dom0_t memory_tpm_t (resource (add_iomem)))"), r"manager -> memory_tpm_t"),
    "dom0 loses a device at boot": (
        _swap("(allow dom0_t pci_card_t (resource (add_irq setup plug use_noiommu",
              "(allow dom0_t pci_card_t (resource (add_irq setup use_noiommu"), r"plug"),
    "a VM adds resources": (
        _add("(allow l_bank_a_db_t l_bank_a_desk_t (resource (add)))"),
        r"bank-a-db -> bank-a-desk"),
    "a type that nothing carries": (_add("(type spare_t)(roletype r spare_t)"), r"types"),
    "a resource with an object's role": (
        _swap(_CARD, "(u object_r irq_card_t ((s0) (s0)))"), r"object context|compile"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_validation_catches(name: str, tmp_path: Path) -> None:
    policy = hardware()
    change, report = MUTATIONS[name]
    with pytest.raises(Internal) as caught:
        validate(change(text_of(policy)), tmp_path, policy)
    if not isinstance(caught.value, verify.Disagreement):
        assert re.search(report, caught.value.id)
        return
    assert any(re.search(report, str(mismatch)) for mismatch in caught.value.mismatches), (
        [str(mismatch) for mismatch in caught.value.mismatches]
    )


def test_validation_catches_ranges_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As secilc leaves them; the hypervisor would not find the label of the first."""
    monkeypatch.setattr(build, "in_order", lambda data: data)
    with pytest.raises(verify.Disagreement, match="ascending ranges"):
        validate(text_of(hardware()), tmp_path, hardware())


def test_ordering_changes_only_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, "in_order", lambda data: data)
        (tmp_path / "p.cil").write_text(text_of(hardware()))
        build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    before = (tmp_path / "p.bin").read_bytes()
    after = in_order(before)
    assert sorted(before) == sorted(after)
    assert before != after
    assert in_order(after) == after
    unordered = reader.read(tmp_path / "p.bin")
    (tmp_path / "p.bin").write_bytes(after)
    ordered = reader.read(tmp_path / "p.bin")
    assert {*unordered.objects} == {*ordered.objects}
    assert replace(unordered, objects=()) == replace(ordered, objects=())
    for a, b in pairwise(o for o in ordered.objects if o.kind == "memory"):
        assert a.last < b.first


@pytest.mark.parametrize("keep", [0, 10, 500, 3000, -1])
def test_ordering_of_damaged_files(keep: int, tmp_path: Path) -> None:
    """A file that stops early is refused, never written back damaged in another way."""
    (tmp_path / "p.cil").write_text(text_of(hardware()))
    build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    data = (tmp_path / "p.bin").read_bytes()
    cut = data[:keep]
    try:
        assert sorted(in_order(cut)) == sorted(cut)
    except ValueError:
        assert keep != -1


def test_an_irq_of_many_labels(tmp_path: Path) -> None:
    """A label inside an entry is the same as another of the same content."""
    twice = replace(hardware(), resources=(
        Resource(ResourceKind.IRQ, "3", INLINE, SPAN),
        Resource(ResourceKind.IRQ, "4", INLINE, SPAN),
    ))
    binary = validate(text_of(twice), tmp_path, twice)
    assert {item.context.type for item in binary.objects} == {"irq_0_t"}
