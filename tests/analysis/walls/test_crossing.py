"""What crosses a wall over time, against a search of who runs and who knows."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings

from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.vertex import Layer
from shype.analysis.walls.crossing import crossings
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.model import Policy
from tests.decision.reference_model import PERMISSIONS, World, may_do
from tests.decision.small_policies import small_policies, world_of

from .naive import Search

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def carries(world: World, x: str, y: str) -> bool:
    """Whether information of ``x`` can arrive at ``y`` while both run."""
    asked = [
        (x, y, "event.send"), (x, y, "argo.send"), (x, y, "grant.copy_to"),
        (y, x, "grant.map_read"), (y, x, "grant.copy_from"), (y, x, "xenstore.read"),
        (x, y, "grant.map_write"), (y, x, "grant.map_write"),
    ]
    return any(may_do(world, s, o, operation) <= PERMISSIONS for s, o, operation in asked)


def learners(found: Policy, search: Search, source: str) -> set[str]:
    """Who can ever know what ``source`` knows: all states of who runs, and which of them know.

    Only ordinary labels pass it on.
    """
    world = world_of(found)
    guests = [str(guest.name) for guest in found.guests]
    passing = {source, *guests} - {*map(str, found.host.drivers)} | {source}
    sends = {(x, y) for x in passing for y in guests if carries(world, x, y)}
    seen: set[tuple[frozenset[str], frozenset[str]]] = set()
    todo = [(frozenset[str](), frozenset[str]())]
    while todo:
        running, knowing = todo.pop()
        if (running, knowing) in seen:
            continue
        seen.add((running, knowing))
        for label in guests:
            if label in running:
                todo.append((running - {label}, knowing - {label}))
            elif search.may_start([*running], label):
                todo.append((running | {label}, knowing | ({label} & {source})))
        for x in knowing:
            todo += [(running, knowing | {y}) for y in running - knowing if (x, y) in sends]
    return {label for _, knowing in seen for label in knowing}


@settings(max_examples=100, deadline=None)
@given(small_policies(levels=False, guards=False))
def test_what_crosses_a_wall(found: Policy) -> None:
    search = Search(found)
    apart = [
        (str(a.name), str(b.name)) for a in found.guests for b in found.guests
        if frozenset({str(a.name), str(b.name)}) not in search.sets
    ]
    made = crossings(FlowGraph(SecurityServer(found)), Layer.TRANSITIVE, limit=99)
    known = {a: learners(found, search, a) for a, _ in apart}
    assert made.separated == len(apart)
    assert {(a, b) for one in made.found for a in one.sources for b in one.sinks} == {
        (a, b) for a, b in apart if b in known[a]
    }
    assert made.crossed == sum(len(one.sources) * len(one.sinks) for one in made.found)


def test_the_banks_leak_through_the_market() -> None:
    graph = FlowGraph(SecurityServer(load(EXAMPLES / "banks.yaml").policy))
    made = crossings(graph)
    assert (made.separated, made.crossed) == (8, 8)
    shortest = min(made.found, key=lambda one: len(one.route.names))
    assert shortest.route.names == ("bank-a-desk", "market-data", "bank-b-desk")
    assert shortest.layer is Layer.TRANSITIVE
    assert [state.stopped for state in shortest.route.states] == [(), ("bank-a-desk",)]
    assert len(crossings(graph, limit=1).found) == 1
    assert crossings(graph, limit=1).crossed == 8


def test_a_wall_between_labels_without_a_common_partner_is_not_crossed() -> None:
    graph = FlowGraph(SecurityServer(load(EXAMPLES / "tenants.yaml").policy))
    made = crossings(graph)
    crossing = {one.route.names for one in made.found}
    assert made.separated == 8
    assert ("red-data", "backup", "blue-data") in crossing
