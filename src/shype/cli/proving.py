"""Assertions on the command line: proved for `check` and `build`, and shown."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shype.analysis.assertions.result import Result, Trail
    from shype.policy.assertions import Assertion
    from shype.policy.model import Policy
    from shype.policy.source import Finding

#: With more labels the proof takes seconds, and says that it goes on.
_LONG = 2_000


def proved(policy: Policy, assertions: Sequence[Assertion]) -> tuple[Result, ...]:
    """The verdicts on ``assertions``. Guards do not expire: what is proved holds on any day."""
    if not assertions:
        return ()
    from shype.analysis.assertions.prove import prove
    from shype.analysis.flows.graph import FlowGraph
    from shype.cli import output
    from shype.decision.security_server import SecurityServer

    long = len(policy.labels) > _LONG
    with output.progress(f"proving {len(assertions)} assertions") if long else nullcontext():
        server = SecurityServer(policy)
        return prove(server, FlowGraph(server), assertions)


def findings(results: Sequence[Result]) -> tuple[Finding, ...]:
    """What is wrong with them: an error for each that is violated."""
    found = (result.finding() for result in results)
    return tuple(finding for finding in found if finding is not None)


def lines(result: Result) -> Iterator[str]:
    """The finding of a result, if there is one, with its paths; of the first, steps and states."""
    from shype.decision.wording import printable

    finding = result.finding()
    if finding is None:
        return
    yield str(finding)
    reason = result.assertion.terms.reason
    if reason is not None:
        yield f"  asserted because: {printable(' '.join(reason.split()))}"
    for violation in result.violations[:1]:
        if len(violation.trails) != 1:
            yield f"  {violation.sentence}:"
        for trail in violation.trails:
            yield from _trail(trail)
        if violation.missing is not None:
            yield f"    {violation.missing.sentence} [{violation.missing.id}]"
            yield from (f"      {rule}" for rule in violation.missing.rules)
    for violation in result.violations[1:]:
        paths = "; ".join(_names(trail) for trail in violation.trails)
        yield f"  also {paths or violation.sentence}"
    rest = result.count - len(result.violations)
    if rest > 0:
        yield f"  and {rest} more, of {result.about}"


def _names(trail: Trail) -> str:
    return " -> ".join(trail.names) + ("" if trail.at_once else "   (never all at once)")


def _trail(trail: Trail) -> Iterator[str]:
    yield f"  {_names(trail)}"
    for step in trail.steps:
        decided = step.decision
        by = f"{step.mechanism} ({', '.join(step.operations)})"
        id = f" [{decided.id}]" if decided is not None else ""
        yield f"    {step.source} -> {step.sink}: {by}{id}"
        yield f"      {step.sentence}"
        for rule in decided.rules if decided is not None else ():
            yield f"      {rule}"
    if trail.at_once:
        yield f"    while these run: {', '.join(trail.states[-1].running)}"
        return
    yield "    a wall keeps them apart; who goes on running carries it over:"
    for number, state in enumerate(trail.states, 1):
        did = [f"stop {', '.join(state.stopped)}"] if state.stopped else []
        did += [f"start {', '.join(state.started)}"] if state.started else []
        yield f"      {number}. {'; '.join(did) or 'go on'}; then run: {', '.join(state.running)}"


def counted(results: Sequence[Result]) -> str:
    """``3 assertions hold``, or ``1 of 3 assertions violated``."""
    violated = sum(not result.holds for result in results)
    if violated:
        return f"{violated} of {len(results)} assertions violated"
    return f"{len(results)} assertions hold" if len(results) != 1 else "1 assertion holds"
