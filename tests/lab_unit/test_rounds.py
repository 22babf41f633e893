"""Who runs together when: every pair that may be tried is, and no round breaks a wall."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings

from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.lab.rounds import Plan, plan
from shype.policy.model import Policy
from tests.decision.examples import read
from tests.decision.small_policies import small_policies

TEXT = """\
shype: 1
policy: {name: walls, version: "1.0"}
coalitions: [work, secret]
walls: {banks: [a, b], seas: [n, s]}
labels:
  boss: {coalitions: [work]}
  a1: {coalitions: [work], wall: [a]}
  a2: {coalitions: [work], wall: [a, n]}
  b1: {coalitions: [work], wall: [b]}
  free: {coalitions: [work]}
  south: {coalitions: [work], wall: [s]}
  odd: {coalitions: [secret]}
host: {dom0: boss}
"""


def names(pairs: object) -> set[tuple[str, ...]]:
    assert isinstance(pairs, frozenset)
    return {tuple(sorted(pair)) for pair in pairs}


def check(policy: Policy, made: Plan, at_once: int) -> None:
    """Against the wall as the server has it, one label after the other."""
    server = SecurityServer(policy)
    for part in made.rounds:
        assert len({*part.labels}) == len(part.labels) <= at_once
        for i, name in enumerate(part.labels):
            beside = [Running(n + 1, "x", other) for n, other in enumerate(part.labels[:i])]
            assert server.launch(name, beside).permitted
        assert all(pair <= {*part.labels} for pair in part.pairs)
    tried = [pair for part in made.rounds for pair in part.pairs]
    assert len(tried) == len({*tried})
    usable = [label.name for label in policy.guests if label.name not in made.refused]
    every = {frozenset(pair) for pair in itertools.combinations_with_replacement(usable, 2)}
    assert {*tried} | made.apart == every
    assert not {*tried} & made.apart


def test_walls_need_rounds() -> None:
    policy = read(TEXT)
    made = plan(SecurityServer(policy), [label.name for label in policy.guests], at_once=8)
    check(policy, made, 8)
    assert names(made.apart) == {("a1", "b1"), ("a2", "b1"), ("a2", "south")}
    assert made.refused == {"odd"}
    assert len(made.rounds) <= 3


@pytest.mark.parametrize("at_once", [2, 3])
def test_little_memory_needs_more_rounds(at_once: int) -> None:
    policy = read(TEXT)
    made = plan(SecurityServer(policy), [label.name for label in policy.guests], at_once=at_once)
    check(policy, made, at_once)


def test_what_runs_already_stays_and_keeps_others_away() -> None:
    policy = read(TEXT)
    labels = [label.name for label in policy.guests]
    b1 = next(name for name in labels if name == "b1")
    made = plan(SecurityServer(policy), labels, at_once=8, fixed=[b1])
    assert all("b1" in part.labels for part in made.rounds)
    assert all("a1" not in part.labels for part in made.rounds)
    assert ("a1", "free") in names(made.apart)


@settings(max_examples=25, deadline=None)
@given(policy=small_policies())
def test_random_policies(policy: Policy) -> None:
    made = plan(SecurityServer(policy), [label.name for label in policy.guests], at_once=3)
    check(policy, made, 3)
