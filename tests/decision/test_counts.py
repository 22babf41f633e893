"""The immutable counters of the wall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.decision.counts import Counts
from shype.policy.names import MemberName

MEMBERS = st.lists(st.sampled_from("abc").map(MemberName))


@given(MEMBERS, MEMBERS)
def test_minus_is_the_inverse_of_plus(old: list[MemberName], new: list[MemberName]) -> None:
    counts = Counts(old)
    assert counts.plus(new).minus(new) == counts
    assert hash(counts.plus(new).minus(new)) == hash(counts)
    assert counts == Counts(old), "plus and minus leave the value alone"


def test_zero_is_absent_and_counts_as_zero() -> None:
    counts = Counts(map(MemberName, "ab")).minus([MemberName("a")])
    assert dict(counts) == {"b": 1}
    assert counts.of(MemberName("a")) == 0
    assert MemberName("a") not in counts
    assert len(counts) == 1
    with pytest.raises(KeyError):
        counts[MemberName("a")]


def test_never_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        Counts([MemberName("a")]).minus([MemberName("b")])
    with pytest.raises(ValueError, match="negative"):
        Counts([MemberName("a")]).minus([MemberName("a"), MemberName("a")])
