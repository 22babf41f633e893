"""`exactly`: the direct flows among some labels, no more and no fewer."""

from __future__ import annotations

from shype.analysis.assertions.result import Result, Violation
from shype.analysis.assertions.trails import chosen
from shype.analysis.assertions.trails import shown as trail_of
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.steps import asked, steps
from shype.analysis.flows.vertex import Layer
from shype.analysis.walls.coexistence import Walls
from shype.base import bits
from shype.decision.decision import Decision
from shype.decision.security_server import SecurityServer
from shype.policy.assertions import Arrow, Choice, Exactly
from shype.policy.mechanism import SWITCHABLE
from shype.policy.names import LabelName


def exactly(
    server: SecurityServer, graph: FlowGraph, walls: Walls, known: Choice, assertion: Exactly,
    shown: int,
) -> Result:
    """The verdict: flows that are there and not listed, then those listed and not there."""
    sides = [side for arrow in assertion.arrows for side in (arrow.source, arrow.sink)]
    labels = known.all_names((*(assertion.among or ()), *sides))
    number = {name: index for index, name in enumerate(labels)}
    wanted = _wanted(known, assertion, number)
    via = frozenset(map(str, assertion.terms.via or SWITCHABLE))
    rows = graph.rows(Layer.SHARED, via)
    at: dict[int, int] = {}  # by vertex, which of the labels
    for name, index in number.items():
        at[graph.of[name]] = at.get(graph.of[name], 0) | 1 << index
    reached: dict[int, int] = {}
    count, found = 0, list[Violation]()
    lost: list[tuple[LabelName, int]] = []
    for name, index in number.items():
        vertex = graph.of[name]
        if vertex not in reached:
            reached[vertex] = _expanded(rows[vertex], at)
        # A label with itself is meant only where it is listed so.
        extra = reached[vertex] & ~wanted[index] & ~(1 << index)
        missing = wanted[index] & ~reached[vertex]
        count += extra.bit_count() + missing.bit_count()
        if missing:
            lost.append((name, missing))
        for other in bits.each(extra) if len(found) < shown else ():
            sink = labels[other]
            step = chosen(steps(graph, name, sink, Layer.SHARED, via))
            found.append(Violation(
                (name, sink), f"there is a direct flow {name} -> {sink}, which is not listed",
                (trail_of(graph, walls, (step,)),),
            ))
    for name, missing in lost:
        for other in bits.each(missing) if len(found) < shown else ():
            sink = labels[other]
            found.append(Violation(
                (name, sink), f"there is no direct flow {name} -> {sink}, which is listed",
                missing=_why_not(server, walls, name, sink, via),
            ))
    about = len(labels) * (len(labels) - 1) + sum(
        wanted[index] >> index & 1 for index in number.values()
    )
    return Result(assertion, about, count, tuple(found[:shown]))


def _wanted(
    known: Choice, assertion: Exactly, number: dict[LabelName, int]
) -> list[int]:
    """Per label, to which of the labels a flow is listed."""
    wanted = [0] * len(number)
    for arrow in assertion.arrows:
        sinks = bits.of(number[name] for name in known.names(arrow.sink))
        for name in known.names(arrow.source):
            index = number[name]
            wanted[index] |= sinks if _both_named(arrow) else sinks & ~(1 << index)
    return wanted


def _both_named(arrow: Arrow) -> bool:
    return arrow.source.single and arrow.sink.single


def _expanded(row: int, at: dict[int, int]) -> int:
    """The labels at the vertices of ``row``."""
    found = 0
    if row.bit_count() < len(at):
        for vertex in bits.each(row):
            found |= at.get(vertex, 0)
        return found
    for vertex, labels in at.items():
        if row >> vertex & 1:
            found |= labels
    return found


def _why_not(
    server: SecurityServer, walls: Walls, source: LabelName, sink: LabelName,
    via: frozenset[str],
) -> Decision:
    """A decision that stands in the way: the first refusal, or else the wall."""
    decisions = [
        decision for operation, decision in asked(server, source, sink)
        if operation.mechanism in via
    ]
    refused = next((one for one in decisions if not one.permitted), None)
    if not walls.coexist(source, sink) and any(one.permitted for one in decisions):
        return server.together(source, sink)
    assert refused is not None
    return refused

