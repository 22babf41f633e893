"""The proof against a search of all states: the same verdicts, and paths that can be taken."""

from __future__ import annotations

from random import Random

import pytest

from shype.analysis.assertions.prove import prove
from shype.analysis.assertions.result import Result, Trail
from shype.analysis.flows.graph import FlowGraph
from shype.decision.security_server import SecurityServer
from shype.policy.assertions import Assertion, Exactly, OnlyThrough, sentence
from tests.analysis.assertions.naive import Naive
from tests.analysis.flows.moves import TOGETHER
from tests.decision.small_policies import TODAY, Chooser, small_policy, small_resources
from tests.policy.assertion_text import assertion


@pytest.mark.parametrize("seed", range(50))
def test_the_proof_agrees_with_a_search_of_all_states(seed: int) -> None:
    choose = Chooser(Random(seed).randrange)
    policy = small_resources(choose, small_policy(choose))
    while len(policy.labels) > 6:
        policy = small_resources(choose, small_policy(choose))
    some = [one for one in (assertion(choose, policy) for _ in range(12)) if one is not None]
    server = SecurityServer(policy, today=TODAY)
    naive = Naive(policy)
    for result in prove(server, FlowGraph(server), some, shown=100):
        wanted = naive.violating(result.assertion)
        assert result.count == len(wanted), (sentence(result.assertion), wanted)
        assert result.holds == (not wanted)
        assert {violation.labels for violation in result.violations} == wanted
        _judge(naive, result)


def _judge(naive: Naive, result: Result) -> None:
    """Every trail leads where the violation says, and can be taken step by step."""
    assertion = result.assertion
    for violation in result.violations:
        if violation.missing is not None:
            assert isinstance(assertion, Exactly)
            assert not violation.missing.permitted
            continue
        assert violation.trails
        for trail in violation.trails:
            assert {trail.names[0], trail.names[-1]} & {*violation.labels}
            if len(violation.labels) == 2:
                assert (trail.names[0], trail.names[-1]) == violation.labels
            _allowed(naive, assertion, trail)
            _take(naive, trail)


def _allowed(naive: Naive, assertion: Assertion, trail: Trail) -> None:
    via = assertion.terms.via
    assert via is None or {step.mechanism for step in trail.steps} <= {*map(str, via)}
    if isinstance(assertion, OnlyThrough):
        assert not {*assertion.by} & {*trail.names}
    if not assertion.terms.dom0:
        assert naive.dom0 not in trail.names
    for step in trail.steps:
        assert step.mechanism in naive.ways[step.source, step.sink]
        assert step.decision is not None
        assert step.decision.permitted
        assert step.decision.rules


def _take(naive: Naive, trail: Trail) -> None:
    """Start and stop as the states say, and hand the information on."""
    hops = []  # (from, to, whether both must run), resources left out
    since, kept = trail.steps[0].source, False
    for step in trail.steps:
        if step.sink in naive.resources:
            kept = True
            continue
        hops.append((since, step.sink, step.mechanism in TOGETHER and not kept))
        since, kept = step.sink, False
    running = {naive.dom0}
    told = {trail.steps[0].source}  # who knows it since when it started
    sent: set[int] = set()
    for state in trail.states:
        assert {*state.stopped} <= running
        running -= {*state.stopped}
        told -= {*state.stopped} - {trail.steps[0].source}
        for name in state.started:
            assert name == naive.dom0 or naive.may_start(name, running), (state, running)
            running.add(name)
        assert running - {naive.dom0} == {*state.running} - {naive.dom0}
        a, b, both = hops[state.step]
        if a in running and a in told:
            sent.add(state.step)
        if state.step in sent and b in running and (a in running or not both):
            told.add(b)
    assert {*range(len(hops))} == sent
    assert hops[-1][1] in told
    everyone = [naive.dom0] + [n for n in {*trail.names} if n in naive.labels]
    together = all(
        naive.may_start(a, [b]) and naive.may_start(b, [a]) for a in everyone for b in everyone)
    assert trail.at_once == together
    if trail.at_once:
        assert not any(state.stopped for state in trail.states)
