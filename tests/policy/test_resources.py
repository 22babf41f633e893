"""Names of resources: spelling, precedence, conflicts, intervals."""

from __future__ import annotations

import time
from collections.abc import Hashable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.policy import resources
from shype.policy.loader import check_text
from shype.policy.model import Policy, Resource, ResourceKind, ResourceLabel
from shype.policy.names import ResourceLabelName
from shype.policy.resources import ResourceTable, canonical, canonical_name, conflicts, intervals
from shype.policy.source import Span
from tests.policy.good_policies import RICH, TODAY
from tests.policy.strategies import PATIENT

DISK, NETWORK, PCI = ResourceKind.DISK, ResourceKind.NETWORK, ResourceKind.PCI
IRQ, IOPORT, MEMORY = ResourceKind.IRQ, ResourceKind.IOPORT, ResourceKind.MEMORY


@pytest.mark.parametrize(
    ("kind", "text", "spelled"),
    [
        (DISK, "/dev/vg0/a", "/dev/vg0/a"),
        (DISK, "/dev/**/a", "/dev/*/a"),
        (DISK, "*", "*"),
        (DISK, "rbd:pool/a", "rbd:pool/a"),
        (DISK, "/srv/my disk.img", "/srv/my disk.img"),
        (NETWORK, "br-web", "br-web"),
        (NETWORK, "br-[a-z]*-and-so-on-and-on", "br-[a-z]*-and-so-on-and-on"),
        (PCI, "03:00.0", "0000:03:00.0"),
        (PCI, "0000:0A:1F.7", "0000:0a:1f.7"),
        (PCI, "0001:03:00.*", "0001:03:00.*"),
        (IRQ, "3", "3"),
        (IRQ, "0x10", "16"),
        (IRQ, "16-19", "16-19"),
        (IRQ, "16 - 16", "16"),
        (IOPORT, "0x02F8", "0x2f8"),
        (IOPORT, "760-767", "0x2f8-0x2ff"),
        (MEMORY, "0xfed40000", "0xfed40000-0xfed40fff"),
        (MEMORY, "0xFED40000-0xFED44FFF", "0xfed40000-0xfed44fff"),
        (MEMORY, "0", "0x0-0xfff"),
    ],
)
def test_one_spelling(kind: ResourceKind, text: str, spelled: str) -> None:
    assert canonical(kind, text) == spelled
    assert canonical(kind, spelled) == spelled


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (DISK, "", "256"), (DISK, "/" + "a" * 256, "256"), (DISK, "dev/a", "absolute"),
        (DISK, "/dev//a", "empty"), (DISK, "/dev/./a", "`.`"), (DISK, "/dev/a/", "empty"),
        (DISK, " /dev/a", "blanks"), (DISK, "/dev/\na", "control"), (DISK, "/dev/[a", "closed"),
        (NETWORK, "br/a", "no `/`"), (NETWORK, "a" * 16, "15"), (NETWORK, "b r", "blanks"),
        (PCI, "03:00", "DDDD"), (PCI, "03:20.0", "DDDD"), (PCI, "03:00.8", "DDDD"),
        (PCI, "*:03:00.0", "DDDD"), (IRQ, "-1", "number"), (IRQ, "1-", "number"),
        (IRQ, "65536", "highest"), (IRQ, "٣", "number"), (IOPORT, "2f8", "0x"),
        (IOPORT, "0x10000", "highest"), (IOPORT, "5-4", "downwards"), (MEMORY, "0x800", "pages"),
        (MEMORY, "0x1000-0x1800", "pages"), (MEMORY, "0x10000000000000", "highest"),
        (IRQ, "1-2-3", "number"), (IRQ, "007", "number"), (IRQ, "*", "number"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(
    kind: ResourceKind, text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        canonical(kind, text)


@given(st.sampled_from(list(ResourceKind)), st.text("/a0x1-:.*[]?! \n\u0663", max_size=12))
def test_no_text_gives_a_traceback(kind: ResourceKind, text: str) -> None:
    for spell in (canonical, canonical_name):
        try:
            found = spell(kind, text)
        except ValueError:
            continue
        assert spell(kind, found) == found


def _clinic() -> Policy:
    policy, findings = check_text(RICH, "p.yaml", TODAY)
    assert policy is not None, findings
    return policy


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        (DISK, "/dev/vg0/mail-db", 27),
        (DISK, "/dev/vg0/mail-web", 28),  # the exact name goes before the pattern
        (DISK, "/dev/vg0/mail-a/b", 27),  # a star takes slashes
        (DISK, "/dev/vg0/web", None),
        (NETWORK, "br-web", 29), (NETWORK, "br-we", None),
        (PCI, "03:00.5", 30), (PCI, "0000:03:01.0", None),
        (IRQ, "16", 31), (IRQ, "17", None),
        (IOPORT, "0x2f8", 32), (IOPORT, "0x2fa-0x2fb", 32), (IOPORT, "0x300", None),
        (IOPORT, "0x300-0x4ff", None),
        (MEMORY, "0xfed41000", 33), (MEMORY, "0xfed45000", None),
    ],
)
def test_the_entry_that_labels_a_resource(kind: ResourceKind, name: str, line: int | None) -> None:
    found = resources.match(_clinic(), kind, name)
    assert (found.span.line if found is not None else None) == line


@pytest.mark.parametrize(
    ("kind", "name", "id"),
    [
        (PCI, "03:00.*", "resource.name"), (DISK, "a", "resource.name"),
        (IRQ, "many", "resource.name"),
        (IOPORT, "0x2f0-0x2f8", "resource.mixed"), (IOPORT, "0x2ff-0x300", "resource.mixed"),
    ],
)
def test_what_has_no_one_answer_is_an_error(kind: ResourceKind, name: str, id: str) -> None:
    with pytest.raises(BadInput) as caught:
        resources.match(_clinic(), kind, name)
    assert caught.value.id == id


def _entry(kind: ResourceKind, pattern: str, label: str, line: int = 1) -> Resource:
    at = Span("p.yaml", line, 1)
    return Resource(kind, pattern, ResourceLabel(ResourceLabelName(label), frozenset(), at), at)


_RANGES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 4), st.sampled_from("xyz")), max_size=6
)


def _numbers(drawn: list[tuple[int, int, str]]) -> list[tuple[ResourceKind, str, Hashable]]:
    return [(IRQ, canonical(IRQ, f"{low}-{low + more}"), label) for low, more, label in drawn]


@PATIENT
@given(_RANGES)
def test_conflicts_of_ranges_are_those_of_their_members(drawn: list[tuple[int, int, str]]) -> None:
    """Two entries of one precedence, one number in both, two labels."""
    entries = _numbers(drawn)
    pairs = {
        (i, j)
        for j, (low, more, label) in enumerate(drawn)
        for i, (first, also, other) in enumerate(drawn[:j])
        if label != other and (more == 0) == (also == 0)
        and max(low, first) <= min(low + more, first + also)
    }
    found = {(early, late) for late, early in conflicts(entries)}
    assert found <= pairs
    assert bool(found) == bool(pairs)


@PATIENT
@given(_RANGES, st.integers(0, 18), st.integers(0, 3))
def test_intervals_and_match_follow_precedence(
    drawn: list[tuple[int, int, str]], at: int, more: int
) -> None:
    entries = _numbers(drawn)
    if next(conflicts(entries), None) is not None:
        return
    made = [
        _entry(kind, pattern, str(label), line + 1)
        for line, (kind, pattern, label) in enumerate(entries)
    ]

    def naive(number: int) -> str | None:
        fitting = [
            (width, label) for low, width, label in drawn if low <= number <= low + width
        ]
        return min(fitting, key=lambda item: item[0] > 0)[1] if fitting else None

    cut = intervals(made, IRQ)
    assert all(a[1] < b[0] for a, b in pairwise(cut))
    by_number = {n: entry.label.name for low, high, entry in cut for n in range(low, high + 1)}
    assert by_number == {n: naive(n) for n in range(20) if naive(n) is not None}
    wanted = {naive(n) for n in range(at, at + more + 1)}
    table = ResourceTable(made)
    if len(wanted) == 1:
        found = table.match(IRQ, f"{at}-{at + more}")
        assert (found.label.name if found is not None else None) == wanted.pop()
    else:
        with pytest.raises(BadInput):
            table.match(IRQ, f"{at}-{at + more}")


def test_a_thousand_patterns_are_compared_in_a_second() -> None:
    entries: list[tuple[ResourceKind, str, Hashable]] = [
        (DISK, f"/dev/vg0/tenant-{i}-*", i) for i in range(1000)
    ]
    begun = time.process_time()
    assert list(conflicts(entries)) == []
    assert time.process_time() - begun < 5


def test_many_ranges_take_seconds() -> None:
    entries: list[tuple[ResourceKind, str, Hashable]] = [
        (MEMORY, f"{i * 8192:#x}-{i * 8192 + 8191:#x}", i) for i in range(20_000)
    ]
    begun = time.process_time()
    assert list(conflicts(entries)) == []
    made = [_entry(MEMORY, pattern, f"l{label}") for _, pattern, label in entries]
    assert len(intervals(made, MEMORY)) == 20_000
    assert time.process_time() - begun < 10
