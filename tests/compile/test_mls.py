"""Levels as the hypervisor writes and compares them, and as policies become them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.compile.flask import encoding, levels
from shype.compile.flask.mls import MlsLevel, MlsRange, parse_level, parse_range
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.model import Policy
from shype.policy.names import CategoryName, LabelName, SensitivityName
from shype.policy.source import Span
from tests.compile.policies import BANKS, LEVELED
from tests.decision.small_policies import small_policies
from tests.policy.strategies import PATIENT

LEVELS = st.builds(MlsLevel, st.integers(0, 20), st.integers(0, 2**12 - 1))


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (MlsLevel(0), "s0"),
        (MlsLevel(12), "s12"),
        (MlsLevel(1, 0b1), "s1:c0"),
        (MlsLevel(1, 0b11), "s1:c0,c1"),  # two neighbours: a comma
        (MlsLevel(1, 0b111), "s1:c0.c2"),  # three: a run
        (MlsLevel(1, 0b1001), "s1:c0,c3"),
        (MlsLevel(2, 0b110111011), "s2:c0,c1,c3.c5,c7,c8"),
        (MlsLevel(0, 1 << 70), "s0:c70"),
    ],
)
def test_text_is_what_xen_prints(level: MlsLevel, text: str) -> None:
    assert str(level) == text
    assert parse_level(text) == level


def test_range_text() -> None:
    assert str(MlsRange(MlsLevel(0), MlsLevel(2, 0b111))) == "s0-s2:c0.c2"
    assert str(MlsRange(MlsLevel(1), MlsLevel(1))) == "s1"
    assert parse_range("s0 - s2:c0.c2") == MlsRange(MlsLevel(0), MlsLevel(2, 0b111))


@PATIENT
@given(low=LEVELS, high=LEVELS)
def test_parsing_inverts_writing(low: MlsLevel, high: MlsLevel) -> None:
    assert parse_range(str(MlsRange(low, high))) == MlsRange(low, high)


@pytest.mark.parametrize(
    "text", ["", "s", "s1:", "s1:x", "s1:c2.c1", "s1:c", "t0", "s0-", "s0--s1"]
)
def test_what_is_no_level(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_range(text)


def _flow(a: tuple[LevelRange, LevelRange], b: tuple[LevelRange, LevelRange]) -> bool:
    return b[0].high.dominates(a[0].low) and a[1].high.dominates(b[1].low)


def test_one_comparison_decides_both_lattices() -> None:
    """Every pair of points of two small lattices, integrity inverted, against the definition."""
    span = Span("t", 1, 1)
    a = Lattice((SensitivityName("a"), SensitivityName("b")), (CategoryName("x"),), span)
    b = Lattice((SensitivityName("c"), SensitivityName("d"), SensitivityName("e")),
                (CategoryName("y"),), span)
    both = Policy(**{
        **{name: getattr(BANKS, name) for name in (
            "name", "version", "source", "coalitions", "walls", "labels", "host",
        )}, "levels": a, "integrity": b,
    })

    def points(lattice: Lattice) -> list[Level]:
        sets = [frozenset[CategoryName](), frozenset(lattice.categories)]
        return [Level(rank, cats) for rank in range(len(lattice.order)) for cats in sets]

    pairs = [*product(points(a), points(b))]
    for (level, integrity), (level2, integrity2) in product(pairs, pairs):
        may = level2.dominates(level) and integrity.dominates(integrity2)
        first = levels.encoded(both, level, integrity)
        second = levels.encoded(both, level2, integrity2)
        assert second.dominates(first) is may
        assert levels.whole(both).high.dominates(first)
        assert (first == second) is ((level, integrity) == (level2, integrity2))


@PATIENT
@given(policy=small_policies())
def test_ranges_decide_as_the_policy(policy: Policy) -> None:
    """The high end of a sink dominates the low end of a source iff information may flow."""
    for x, y in product(policy.guests, policy.guests):
        may = True
        if x.level and y.level:
            may &= y.level.high.dominates(x.level.low)
        if x.integrity and y.integrity:
            may &= x.integrity.high.dominates(y.integrity.low)
        source, sink = levels.range_of(policy, x), levels.range_of(policy, y)
        assert sink.high.dominates(source.low) is may
        assert sink.high.dominates(sink.low)


def test_contexts() -> None:
    entries = encoding.label_entries(LEVELED)

    def range_of(name: str) -> str:
        return entries[LabelName(name)].context.split(":", 3)[3]

    # c0 crew, c1 finance; integrity: c2 below checked, c3 below trusted, c4 not signed.
    assert range_of("low") == "s0"
    assert range_of("high-crew") == "s1:c0"
    assert range_of("dirty") == "s0:c3,c4"
    assert range_of("mixed") == "s1:c0,c3,c4"
    assert range_of("wall-desk") == "s0:c2.c4"
    assert range_of("netd") == "s0-s2:c0.c4"
    assert encoding.dom0_entry(LEVELED).context == "u:r:dom0_t:s0-s2:c0.c4"
    assert encoding.dom0_entry(BANKS).context == "u:r:dom0_t:s0"
    assert all(e.context.endswith("_t:s0") for e in encoding.label_entries(BANKS).values())
