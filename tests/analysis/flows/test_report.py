"""Counts, pairs and routes, and the picture of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from shype.analysis.flows import covert, picture
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.report import counts, pairs, routes
from shype.analysis.flows.steps import steps
from shype.analysis.flows.vertex import Layer
from shype.base.errors import Internal
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.decision.small_policies import TODAY, policies_with_resources

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ("banks", "hospital", "classified")


def graph_of(name: str) -> FlowGraph:
    return FlowGraph(SecurityServer(load(ROOT / "examples" / f"{name}.yaml").policy))


@settings(deadline=None, max_examples=25)
@given(policy=policies_with_resources())
def test_counts_and_pairs(policy: Policy) -> None:
    graph = FlowGraph(SecurityServer(policy, today=TODAY))
    guests = [label for label in policy.labels if label != policy.host.dom0]
    for last in (Layer.DIRECT, Layer.DRIVER, Layer.COVERT, Layer.DOM0):
        expected = dict.fromkeys(last.below, 0)
        for a in guests:
            for b in guests:
                first = next((
                    layer for layer in last.below
                    if graph.reach(layer)[graph.of[a]] >> graph.of[b] & 1
                ), None)
                if a != b and first is not None:
                    expected[first] += 1
        assert counts(graph, last) == expected
        for pair in pairs(graph, last):
            assert (pair.path[0], pair.path[-1]) == (pair.source, pair.sink)
            start, end = (graph.vertices[v].names[0] for v in (pair.source, pair.sink))
            direct = {"event", "grant", "argo", "xenstore", "foreign"}
            named = direct if last is Layer.DIRECT else None
            assert {*pair.by} == {s.mechanism for s in steps(graph, start, end, last, named)}
            assert pair.by or len(pair.path) > 2, pair
            assert all(last.passes(graph.vertices[v].role) for v in pair.path[1:-1])


def test_a_route_says_each_step_with_rule_and_line() -> None:
    (route,) = routes(graph_of("hospital"), "surgery", "statistics", Layer.GUARD)
    assert route.names == ("surgery", "anonymiser", "statistics")
    for ways in route.steps:
        for way in ways:
            assert way.decision is not None
            assert "the guard anonymiser passes information" in way.sentence
            assert any(rule.line == 25 for rule in way.decision.rules)


def test_a_way_back_that_is_covert_has_its_name() -> None:
    """planning reads what press grants, so press learns by its grant entry that it was read."""
    graph = graph_of("classified")
    assert not routes(graph, "command", "press", Layer.DRIVER)
    (route,) = routes(graph, "command", "press", Layer.COVERT, ["grant-status"], limit=1)
    assert [way.mechanism for way in route.steps[0]] == ["grant-status"]
    assert not routes(graph, "press", "website", Layer.COVERT, ["grant-status"])


def test_a_copy_by_others_needs_somebody_who_may_copy_to_the_sink() -> None:
    """Two websites may copy to each other, so a third VM that works with both writes to one."""
    graph = graph_of("classified")
    rows = {c.id: c.rows(graph) for c in covert.CHANNELS}["copy-by-others"]
    sinks = {sink for sink in graph.of if rows[graph.of["personnel"]] >> graph.of[sink] & 1}
    may = {
        sink for sink in graph.of if any(
            graph.server.permits(LabelName(a), LabelName(sink), Operation.COPY_TO)
            for a in graph.server.policy.labels if a != "operator" and ":" not in sink
        )
    }
    assert sinks == may - {"operator"}
    assert "website" in sinks


def test_without_grants_nobody_copies_for_others(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        'shype: 1\npolicy: {name: p, version: "1.0"}\n'
        "coalitions: {a: {mechanisms: [event, argo]}}\n"
        "labels:\n  m: {coalitions: all}\n  x: {coalitions: [a]}\n  y: {coalitions: [a]}\n"
        "host: {dom0: m}\n"
    )
    graph = FlowGraph(SecurityServer(load(path).policy))
    rows = {c.id: c.rows(graph) for c in covert.CHANNELS}["copy-by-others"]
    assert not any(rows)


def test_minimal_paths_are_more_than_the_shortest(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        'shype: 1\npolicy: {name: p, version: "1.0"}\ncoalitions: [ab, bd, ac, ce, ed]\nlabels:\n'
        "  m: {coalitions: all}\n  a: {coalitions: [ab, ac]}\n  b: {coalitions: [ab, bd]}\n"
        "  c: {coalitions: [ac, ce]}\n  e: {coalitions: [ce, ed]}\n  d: {coalitions: [bd, ed]}\n"
        "host: {dom0: m}\n"
    )
    graph = FlowGraph(SecurityServer(load(path).policy))
    shortest = [route.names for route in routes(graph, "a", "d", Layer.DRIVER)]
    minimal = [route.names for route in routes(graph, "a", "d", Layer.DRIVER, minimal=True)]
    assert shortest == [("a", "b", "d")]
    assert minimal == [("a", "b", "d"), ("a", "c", "e", "d")]
    assert len(routes(graph, "a", "d", Layer.DRIVER, minimal=True, limit=1)) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_docs_have_the_picture_of_the_example(name: str) -> None:
    """Made by `shype flows examples/NAME.yaml --format svg -o docs/images/flows-NAME.svg`."""
    drawn = (ROOT / "docs" / "images" / f"flows-{name}.svg").read_text()
    assert picture.digest(picture.dot(graph_of(name))) in drawn, "draw it anew"


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_an_svg_shows_every_label_once() -> None:
    text = picture.svg(picture.dot(graph_of("classified")))
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    words = [node.text for node in root.iter() if node.tag.endswith("text")]
    for label in ("press", "planning", "personnel", "command", "collector", "release"):
        assert words.count(label) == 1
    assert "operator" not in words, "dom0 is not drawn"
    assert "operator" in picture.dot(graph_of("classified"), Layer.DOM0)


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_a_picture_that_fails_is_an_error() -> None:
    with pytest.raises(Internal, match=r"flow\.picture"):
        picture.svg("digraph {")


def test_names_cannot_break_out_of_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        'shype: 1\npolicy: {name: p, version: "1.0"}\ncoalitions: [a]\nlabels:\n'
        '  m: {coalitions: all}\n  x: {coalitions: [a]}\n  y: {coalitions: [a]}\n'
        'resources:\n  - {disk: "/dev/<b>&\\"x", coalitions: [a]}\nhost: {dom0: m}\n'
    )
    text = picture.dot(FlowGraph(SecurityServer(load(path).policy)))
    assert "&lt;b&gt;&amp;" in text
    if shutil.which("dot") is not None:
        ElementTree.fromstring(picture.svg(text))
