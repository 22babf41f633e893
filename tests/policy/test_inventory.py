"""What a host has, against what a policy names."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.policy import inventory, resources
from shype.policy.findings import Id
from shype.policy.inventory import Inventory, unmatched
from shype.policy.loader import check, check_text, load
from shype.policy.model import Resource, ResourceKind, ResourceLabel
from shype.policy.names import ResourceLabelName
from shype.policy.source import Severity, Span
from tests.policy.good_policies import RICH, TODAY
from tests.policy.strategies import PATIENT, resource_names

ALL = """\
# the clinic's host
disk /dev/vg0/mail-db
disk /dev/vg0/mail-web

network br-web
pci 03:00.5
irq 0x10
ioport 0x2ff-0x300
memory 0xfed43000
"""


def _read(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "host.txt"
    path.write_text(text, encoding="utf-8")
    return inventory.read(path)


def _clinic(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(RICH, encoding="utf-8")
    return path


def test_names_are_read_in_canonical_spelling(tmp_path: Path) -> None:
    known = _read(tmp_path, ALL)
    assert known.items[3:6] == (
        (ResourceKind.PCI, "0000:03:00.5"), (ResourceKind.IRQ, "16"),
        (ResourceKind.IOPORT, "0x2ff-0x300"),
    )


def test_nothing_is_said_if_every_entry_matches(tmp_path: Path) -> None:
    assert check(_clinic(tmp_path), TODAY, _read(tmp_path, ALL))[1] == ()
    assert check(_clinic(tmp_path), TODAY)[1] == ()


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("disk /dev/vg0/mail-web", 28), ("network br-web", 29), ("pci 03:00.5", 30),
        ("irq 0x10", 31), ("ioport 0x2ff-0x300", 32), ("memory 0xfed43000", 33),
    ],
)
def test_an_entry_that_matches_nothing_is_a_warning(tmp_path: Path, line: str, at: int) -> None:
    assert ALL.count(line) == 1
    policy, findings = check(
        _clinic(tmp_path), TODAY, _read(tmp_path, ALL.replace(line, "irq 999"))
    )
    assert policy is not None
    assert [(f.id, f.span.line, f.severity) for f in findings] == [
        (Id.RESOURCE_UNMATCHED, at, Severity.WARNING)
    ]
    assert "host.txt" in findings[0].message


def test_an_empty_inventory_matches_nothing(tmp_path: Path) -> None:
    found = check(_clinic(tmp_path), TODAY, _read(tmp_path, ""))[1]
    assert [f.span.line for f in found] == [27, 28, 29, 30, 31, 32, 33]


_POLICY = check_text(RICH, "p.yaml", TODAY)[0] or pytest.fail("the base has errors")


@PATIENT
@given(st.lists(resource_names(), max_size=6), st.lists(resource_names(), max_size=6))
def test_unmatched_entries_cover_nothing(
    written: list[tuple[ResourceKind, str]], drawn: list[tuple[ResourceKind, str]]
) -> None:
    label = ResourceLabel(ResourceLabelName("x"), frozenset(), Span("p.yaml", 1, 1))
    policy = replace(_POLICY, resources=tuple(
        Resource(kind, pattern, label, Span("p.yaml", at + 1, 1))
        for at, (kind, pattern) in enumerate(written)
    ))
    items = tuple(item for item in drawn if resources.exact(*item))
    idle = {finding.span for finding in unmatched(policy, Inventory("host", items))}
    for entry in policy.resources:
        matched = any(
            kind is entry.kind and resources.covers(kind, entry.pattern, name)
            for kind, name in items
        )
        assert matched == (entry.span not in idle)


@pytest.mark.parametrize(
    ("text", "id", "says"),
    [
        ("tape /dev/a\n", "inventory.invalid", "line 1: `tape` is no kind"),
        ("disk\n", "inventory.invalid", "line 1: it has 1 to 256"),
        ("irq 1\npci 03:00.*\n", "inventory.invalid", "line 2: a name has no `*`"),
        ("x\n" * 12, "inventory.invalid", "and 2 more"),
        ("irq 1\n" * 20_001, "inventory.unreadable", "20000 lines"),
    ],
)
def test_what_is_no_inventory_is_refused(tmp_path: Path, text: str, id: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        _read(tmp_path, text)
    assert caught.value.id == id
    assert says in caught.value.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    binary, pipe = tmp_path / "binary", tmp_path / "pipe"
    binary.write_bytes(b"disk \xff\n")
    os.mkfifo(pipe)
    for path in (tmp_path / "none", tmp_path, binary, pipe):
        with pytest.raises(BadInput) as caught:
            inventory.read(path)
        assert caught.value.id == "inventory.unreadable"


def test_the_largest_inventory_takes_seconds(tmp_path: Path) -> None:
    lines = "".join(f"disk /dev/vg1/disk-{i}\n" for i in range(20_000))
    entries = "".join(f"  - {{disk: '/dev/vg0/a{i}*', label: mail}}\n" for i in range(50))
    path = tmp_path / "p.yaml"
    path.write_text(RICH.replace("  - {network", entries + "  - {network"), encoding="utf-8")
    policy = load(path, TODAY).policy
    begun = time.process_time()
    assert len(list(unmatched(policy, _read(tmp_path, lines)))) == 57
    assert time.process_time() - begun < 10
