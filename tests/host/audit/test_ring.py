"""What is new in a ring, against a ring whose every line is known."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.host.audit.ring import Seen, news


def test_nothing_was_seen() -> None:
    assert news(Seen(), ["a", "b"]).start == 0
    assert not news(Seen(), ["a"]).gap


def test_a_ring_that_only_grew() -> None:
    found = news(Seen.of(["a", "a"]), ["a", "a", "a", "b"])
    assert (found.start, found.gap, found.least) == (2, False, False)


def test_a_ring_that_dropped_lines_and_cut_its_first() -> None:
    found = news(Seen.of(["boot", "one", "two", "three"]), ["wo", "three", "four"])
    assert (found.start, found.gap) == (2, False)


def test_nothing_is_left_of_what_was_seen() -> None:
    found = news(Seen.of(["a", "b"]), ["x", "y", "z"])
    assert (found.start, found.gap) == (0, True)
    assert news(Seen.of(["a", "b"]), []).gap


def test_a_ring_that_was_cleared_is_a_gap_though_it_shows_the_same_again() -> None:
    denial = "avc: denied " + "x" * 150
    found = news(Seen.of(["boot", denial, denial]), ["more", denial])
    assert (found.start, found.gap) == (0, True)


def test_a_ring_full_of_one_line_tells_no_number() -> None:
    ring = ["same"] * 200
    found = news(Seen.of(ring), ring)
    assert (found.start, found.gap, found.least) == (200, False, True)


def test_a_ring_full_of_two_lines_in_turn_tells_no_number() -> None:
    ring = ["one", "two"] * 100
    assert news(Seen.of(ring), ring).least
    assert not news(Seen.of(["boot", *ring]), ["boot", *ring]).least
    assert not news(Seen.of(["one"] * 5), ["one"] * 5).least


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30),
       st.lists(st.sampled_from("abcd"), max_size=30), st.integers(3, 25))
def test_never_more_than_there_were_and_exact_unless_it_says_so(
    first: list[str], second: list[str], size: int
) -> None:
    ring: deque[str] = deque(first, maxlen=size)
    seen = Seen.of(list(ring))
    ring.extend(second)
    lines = list(ring)
    found = news(seen, lines)
    fresh = len(lines) - found.start
    if found.gap or not seen.count:
        assert found.start == 0
        return
    possible = min(len(second), len(lines))
    assert fresh <= possible
    if len(first) + len(second) <= size:
        assert fresh == len(second)
    if len(set(first + second)) == len(first + second):  # all lines differ
        assert fresh == possible
        assert not found.least
