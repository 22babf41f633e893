"""The flow graph of a policy against the reference model and a search of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.report import routes
from shype.analysis.flows.steps import along, steps
from shype.analysis.flows.vertex import Layer, Role
from shype.base.errors import BadInput
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.analysis.flows.moves import BACK, FORTH, TOGETHER
from tests.decision import reference_model as model
from tests.decision.small_policies import (
    TODAY,
    policies_with_resources,
    resource_of,
    world_of,
)

Direct = dict[tuple[str, str], set[str]]


def direct_flows(policy: Policy) -> Direct:
    """From and to (labels, or kind:pattern of a resource): by which mechanisms."""
    world = world_of(policy, TODAY)
    found: Direct = {}

    def may(s: str, o: str, operation: str) -> bool:
        return model.may_do(world, s, o, operation) <= model.PERMISSIONS

    for a in world.labels:
        for b in world.labels:
            beside = model.may_start(
                world.walls.values(), [model.held(world, a)], model.held(world, b))
            ways = {
                mechanism for mechanism in FORTH
                if (beside or mechanism not in TOGETHER)
                and (any(may(a, b, op) for op in FORTH[mechanism])
                     or any(may(b, a, op) for op in BACK.get(mechanism, [])))
            }
            if ways:
                found[a, b] = ways
        for entry in policy.resources:
            name, thing = f"{entry.kind}:{entry.pattern}", resource_of(entry.label)
            if a == world.dom0:
                continue
            if model.may_use(world, a, entry.kind, thing, "write") <= model.PERMISSIONS:
                found[a, name] = {str(entry.kind)}
            if model.may_use(world, a, entry.kind, thing, "read") <= model.PERMISSIONS:
                found[name, a] = {str(entry.kind)}
    return found


def layers(policy: Policy, direct: Direct) -> dict[tuple[str, str], Layer]:
    """The first layer at which each pair is connected, by walking from each source."""
    def role(name: str) -> Layer:
        if ":" in name:
            return Layer.SHARED
        label = LabelName(name)
        if label == policy.host.dom0:
            return Layer.DOM0
        if label in policy.guards:
            return Layer.GUARD
        return Layer.DRIVER if label in policy.host.drivers else Layer.TRANSITIVE

    found: dict[tuple[str, str], Layer] = {}
    for layer in Layer:
        if layer is Layer.COVERT:
            break
        edges = {
            pair for pair, ways in direct.items() if layer >= Layer.SHARED or ways & TOGETHER
        }
        for source in {a for a, _ in edges}:
            seen: set[str] = set()
            ahead = [b for a, b in edges if a == source]
            while ahead:
                one = ahead.pop()
                if one in seen:
                    continue
                seen.add(one)
                if layer > Layer.DIRECT and role(one) <= layer:
                    ahead += [b for a, b in edges if a == one]
            for sink in seen:
                found.setdefault((source, sink), layer)
    return found


@settings(deadline=None, max_examples=50)
@given(policy=policies_with_resources())
def test_direct_flows_and_layers(policy: Policy) -> None:
    graph = FlowGraph(SecurityServer(policy, today=TODAY))
    direct = direct_flows(policy)
    names = [*policy.labels, *(f"{e.kind}:{e.pattern}" for e in policy.resources
                               if not e.label.inaccessible)]
    assert {*graph.of} == {*names}
    expected = layers(policy, direct)
    for a in names:
        for b in names:
            x, y = graph.of[a], graph.of[b]
            found = {m for m, rows in graph.by_mechanism.items() if rows[x] >> y & 1}
            assert found == direct.get((a, b), set()), (a, b)
            layer = graph.layer(x, y)
            assert expected.get((a, b)) == (None if layer is Layer.COVERT else layer), (a, b)
            made = steps(graph, a, b)
            assert {step.mechanism for step in made} == found
            for step in made:
                assert step.decision is not None
                assert step.decision.permitted, step
                assert step.operations, step


@settings(deadline=None, max_examples=20)
@given(policy=policies_with_resources())
def test_every_path_is_made_of_steps(policy: Policy) -> None:
    graph = FlowGraph(SecurityServer(policy, today=TODAY))
    for x in range(len(graph)):
        for y in range(len(graph)):
            for layer in (Layer.TRANSITIVE, Layer.DRIVER, Layer.COVERT):
                path = next(graph.paths(x, y, layer), None)
                assert (path is not None) == bool(graph.reach(layer)[x] >> y & 1)
                if path is None:
                    continue
                passable = graph.passable(layer)
                assert all(passable >> vertex & 1 for vertex in path[1:-1])
                assert all(along(graph, path, layer)), path


BANKS = """\
shype: 1
policy: {name: banks, version: "1.0"}
coalitions: [a, b, market]
walls: {banks: [bank-a, bank-b]}
labels:
  manager: {coalitions: all}
  a-desk: {coalitions: [a, market], wall: [bank-a]}
  b-desk: {coalitions: [b, market], wall: [bank-b]}
  prices: {coalitions: [market]}
host: {dom0: manager}
"""


@pytest.fixture
def banks(tmp_path: Path) -> FlowGraph:
    path = tmp_path / "banks.yaml"
    path.write_text(BANKS)
    return FlowGraph(SecurityServer(load(path).policy))


def test_a_wall_stops_the_direct_flow_and_not_the_one_over_time(banks: FlowGraph) -> None:
    a, b = banks.find("a-desk"), banks.find("b-desk")
    assert banks.layer(a, b) is Layer.TRANSITIVE
    (path,) = banks.paths(a, b, Layer.TRANSITIVE)
    assert [banks.vertices[v].shown for v in path] == ["a-desk", "prices", "b-desk"]
    (route,) = routes(banks, "a-desk", "b-desk", Layer.TRANSITIVE)
    assert not route.at_once
    assert [(s.stopped, s.started, s.running) for s in route.states] == [
        ((), ("a-desk", "prices"), ("a-desk", "prices")),
        (("a-desk",), ("b-desk",), ("prices", "b-desk")),
    ]
    (half,) = routes(banks, "a-desk", "prices", Layer.TRANSITIVE)
    assert half.at_once


def test_disks_and_networks_need_no_meeting(banks: FlowGraph) -> None:
    a, b = banks.find("a-desk"), banks.find("b-desk")
    assert not any(banks.by_mechanism[m][a] >> b & 1 for m in ("event", "grant", "argo"))
    assert all(banks.by_mechanism[m][a] >> b & 1 for m in ("disk", "network"))


def test_paths_by_one_mechanism(banks: FlowGraph) -> None:
    a, b = banks.find("a-desk"), banks.find("b-desk")
    assert list(banks.paths(a, b, Layer.DRIVER, ["disk"])) == [(a, b)]
    assert [len(p) for p in banks.paths(a, b, Layer.DRIVER, ["grant"])] == [3]
    assert not list(banks.paths(a, b, Layer.DRIVER, ["pci"]))


def test_unknown_names_are_refused_with_a_suggestion(banks: FlowGraph) -> None:
    with pytest.raises(BadInput, match="did you mean a-desk"):
        banks.find("a-dsk")


def test_labels_that_are_alike_share_a_vertex(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(BANKS.replace("  prices:", "  quotes: {coalitions: [market]}\n  prices:"))
    graph = FlowGraph(SecurityServer(load(path).policy))
    assert graph.of["quotes"] == graph.of["prices"]
    shared = graph.vertices[graph.of["prices"]]
    assert shared.shown == "quotes, prices"
    assert shared.role is Role.LABEL
    assert {step.mechanism for step in steps(graph, "quotes", "prices")} >= {"grant", "event"}
