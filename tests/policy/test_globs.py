"""Patterns: what they match, by fnmatch; whether two meet, by trying all short names."""

from __future__ import annotations

import fnmatch
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.policy import globs
from tests.policy.strategies import PATIENT

_PIECES = st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[a-c]", "[!a-b]", "c"])
_PATTERNS = st.lists(_PIECES, max_size=5).map("".join)
#: Every name of up to six of four characters: enough for what patterns of five pieces tell apart
#: (the star-free parts of two of them are at most ten long, but those decide by themselves).
_NAMES = ["".join(chars) for n in range(7) for chars in itertools.product("abcd", repeat=n)]


@PATIENT
@given(_PATTERNS, st.text("abcd[-!", max_size=8))
def test_matching_is_that_of_fnmatch(pattern: str, name: str) -> None:
    assert globs.matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@PATIENT
@given(st.lists(_PIECES, max_size=3).map("".join), st.lists(_PIECES, max_size=3).map("".join))
def test_two_patterns_meet_iff_some_name_matches_both(a: str, b: str) -> None:
    common = next((n for n in _NAMES if globs.matches(a, n) and globs.matches(b, n)), None)
    assert globs.meet(a, b) == globs.meet(b, a) == (common is not None), common


@PATIENT
@given(_PATTERNS, _PATTERNS, st.text("abcd", max_size=9))
def test_what_matches_both_makes_them_meet(a: str, b: str, name: str) -> None:
    if globs.matches(a, name) and globs.matches(b, name):
        assert globs.meet(a, b)


@PATIENT
@given(_PATTERNS, _PATTERNS)
def test_what_is_known_at_once_is_true(a: str, b: str) -> None:
    known = globs.at_once(a, b)
    if known is False:
        assert not any(globs.matches(a, n) and globs.matches(b, n) for n in _NAMES[:400])
    if known is True:
        heads = [p[: p.index("*")] for p in (a, b) if "*" in p]
        tails = [p[p.rindex("*") + 1 :] for p in (a, b) if "*" in p]
        assert len(heads) == 2
        assert max(heads, key=len).startswith(min(heads, key=len))
        assert max(tails, key=len).endswith(min(tails, key=len))


@pytest.mark.parametrize("pattern", ["[", "a[b", "[]", "[!]", "[^a]", "[b-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\["):
        globs.check(pattern)


def test_hostile_patterns_take_no_time() -> None:
    begun = time.process_time()
    assert not globs.matches("*a" * 120 + "b", "a" * 4096)
    assert globs.meet("*a" * 120, "a" * 240)
    assert not globs.meet("*a" * 120 + "b", "a" * 240)
    assert not globs.meet("?" * 254, "*" + "?" * 255)
    assert time.process_time() - begun < 1
