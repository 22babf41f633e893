"""Old names to new ones: valid, told apart, the same for everybody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.policy import grammar
from shype.policy.acm.names import assign, fold


@pytest.mark.parametrize(("old", "new"), [
    ("A-Bank.MarketAnalysis", "a-bank-marketanalysis"), ("__UNLABELED__", "unlabeled"),
    ("SystemManagement", "systemmanagement"), ("res_LogicalDiskPartition1 (hda1)",
                                               "res-logicaldiskpartition1-hda1"),
    ("7 dwarfs", "n-7-dwarfs"), ("Straße", "strasse"), ("Éole", "eole"), ("...", "x"), ("", "x"),
    ("部", "u90e8"), ("a" * 60, "a" * 48), ("a" * 47 + "--b", "a" * 47), ("a-b", "a-b"),
])
def test_the_nearest_valid_name(old: str, new: str) -> None:
    assert fold(old) == new


@given(st.text(max_size=80))
def test_it_is_valid_and_a_valid_name_stays(old: str) -> None:
    assert grammar.is_name(fold(old))
    assert fold(fold(old)) == fold(old)
    assert not grammar.is_name(old) or fold(old) == old


@given(st.lists(st.text("aA-_.1", max_size=4), max_size=12), st.sets(st.sampled_from(["a", "a-2"])))
def test_no_two_alike(names: list[str], taken: set[str]) -> None:
    new = assign(names, taken=taken)
    assert new.keys() == set(names)
    assert len(set(new.values())) == len(new)
    assert all(map(grammar.is_name, new.values()))
    assert taken.isdisjoint(new.values())
    assert assign(names, taken=taken) == new


def test_valid_names_come_first_and_numbers_avoid_what_is_there() -> None:
    assert assign(["A", "a", "a-2", "A_"]) == {"A": "a-3", "a": "a", "a-2": "a-2", "A_": "a-4"}


def test_fixed_and_reserved_names() -> None:
    assert assign(["unlabeled", "__X__", "Unlabeled"], {"__X__": "unlabeled"}) == {
        "unlabeled": "unlabeled-2", "__X__": "unlabeled", "Unlabeled": "unlabeled-3",
    }
    assert assign(["all", "ALL"], taken=["all"]) == {"all": "all-2", "ALL": "all-3"}


@given(st.text("aB", min_size=60, max_size=70), st.text("aB", min_size=60, max_size=70))
def test_long_names_are_told_apart(one: str, other: str) -> None:
    new = assign([one, other])
    assert one == other or new[one] != new[other]
    assert all(len(name) <= grammar.NAME_LIMIT for name in new.values())
