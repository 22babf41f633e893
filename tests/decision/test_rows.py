"""Whole rows by sets of classes are what single vectors are."""

from __future__ import annotations

from hypothesis import given, settings

from shype.base import bits
from shype.decision.security_server import SecurityServer
from shype.decision.sharing import UNRELATED
from shype.policy.model import Policy
from tests.decision.small_policies import TODAY, small_policies
from tests.policy.strategies import full_policies


def check(policy: Policy) -> None:
    server = SecurityServer(policy, today=TODAY)
    for subject in range(len(server.classes.rights)):
        seen: set[int] = set()
        expected = server.vectors(subject)
        for vector, classes in server.groups(subject):
            assert classes, "no empty set"
            for number in bits.each(classes):
                assert number not in seen, "the sets are disjoint"
                seen.add(number)
                assert vector == expected.get(number, UNRELATED)
        missing = expected.keys() - seen
        assert all(expected[number] == UNRELATED for number in missing)


@settings(deadline=None, max_examples=100)
@given(policy=small_policies())
def test_small_policies(policy: Policy) -> None:
    check(policy)


@settings(deadline=None, max_examples=20)
@given(policy=full_policies())
def test_policies_of_every_form(policy: Policy) -> None:
    check(policy)
