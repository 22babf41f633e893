"""Simple Type Enforcement: the sharing and the authorization rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.decision.type_enforcement import TypeEnforcement
from shype.policy.names import CoalitionName, LabelName

from . import reference_model

ROWS = st.dictionaries(
    st.sampled_from("ABCDEF").map(LabelName),
    st.frozensets(st.sampled_from("tuvwxyz").map(CoalitionName)),
    min_size=1,
)


def rows(**types: str) -> TypeEnforcement:
    """One label per keyword; each letter of the value is a type."""
    return TypeEnforcement(
        {LabelName(n): frozenset(map(CoalitionName, row)) for n, row in types.items()}
    )


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ("st", "tu", "t"), ("st", "st", "st"), ("s", "t", ""), ("", "s", ""), ("", "", ""),
        ("stu", "uts", "stu"),
    ],
)
def test_sharing_rule(a: str, b: str, shared: str) -> None:
    ste = rows(a=a, b=b)
    assert ste.shared(LabelName("a"), LabelName("b")) == tuple(shared)
    assert ste.may_share(LabelName("a"), LabelName("b")) is bool(shared)


def test_a_row_without_types_shares_not_even_with_itself() -> None:
    ste = rows(empty="", full="s")
    assert not ste.may_share(LabelName("empty"), LabelName("empty"))
    assert ste.may_share(LabelName("full"), LabelName("full"))


@pytest.mark.parametrize(
    ("host", "label", "missing"), [("st", "s", ""), ("s", "st", "t"), ("s", "", ""), ("", "s", "s")]
)
def test_authorization_rule(host: str, label: str, missing: str) -> None:
    ste = rows(host=host, label=label)
    assert ste.may_authorize(LabelName("host"), LabelName("label")) is (missing == "")
    assert ste.missing(LabelName("host"), LabelName("label")) == tuple(missing)


def test_a_label_without_a_row_is_an_error() -> None:
    ste = rows(a="s")
    with pytest.raises(KeyError):
        ste.may_share(LabelName("a"), LabelName("b"))
    with pytest.raises(KeyError):
        ste.may_authorize(LabelName("b"), LabelName("a"))


def test_more_types_than_bits_of_a_machine_word() -> None:
    everything = frozenset(CoalitionName(f"t{i}") for i in range(500))
    ste = TypeEnforcement({LabelName("a"): everything, LabelName("b"): everything})
    assert ste.shared(LabelName("a"), LabelName("b")) == tuple(sorted(everything))


@given(ROWS)
def test_agrees_with_the_reference_and_is_symmetric(
    matrix: dict[LabelName, frozenset[CoalitionName]],
) -> None:
    ste = TypeEnforcement(matrix)
    for a, row_a in matrix.items():
        assert ste.types(a) == tuple(sorted(row_a))
        for b, row_b in matrix.items():
            assert ste.may_share(a, b) is reference_model.may_share(row_a, row_b)
            assert ste.may_share(a, b) is ste.may_share(b, a)
            assert ste.shared(a, b) == ste.shared(b, a) == tuple(sorted(row_a & row_b))
            assert ste.may_authorize(a, b) is reference_model.may_authorize(row_a, row_b)
            assert ste.missing(a, b) == tuple(sorted(row_b - row_a))
