"""One step of a flow in words: by what, by which rule of the policy, at which line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from shype.analysis.flows import covert
from shype.analysis.flows.carrying import TOGETHER, backward, onward
from shype.analysis.flows.digraph import Path
from shype.analysis.flows.graph import MECHANISMS, FlowGraph
from shype.analysis.flows.vertex import Layer, Vertex
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

_TOGETHER = {*map(str, TOGETHER), *(channel.id for channel in covert.CHANNELS)}


@dataclass(frozen=True, slots=True)
class Step:
    """``source`` flows directly to ``sink``.

    ``mechanism`` is one of `graph.MECHANISMS` or a covert channel's id.
    ``operations`` are those that carry it, ``decision`` the security server's
    on the first of them; both are empty for a covert channel, which has a
    ``sentence`` only.
    """

    source: str
    sink: str
    mechanism: str
    operations: tuple[str, ...]
    sentence: str
    decision: Decision | None = None

    def to_json(self) -> dict[str, object]:
        """Shape of a step in ``--json`` output."""
        return {
            "from": self.source, "to": self.sink, "mechanism": self.mechanism,
            "operations": list(self.operations), "sentence": self.sentence,
            "id": None if self.decision is None else self.decision.id,
            "rules": [] if self.decision is None else [str(r) for r in self.decision.rules],
        }


def steps(
    graph: FlowGraph, source: str, sink: str, layer: Layer = Layer.DOM0,
    via: Collection[str] | None = None,
) -> tuple[Step, ...]:
    """All direct flows between two named vertices that count at ``layer``, by ``via`` (None: all).

    Both may be one name: two VMs of that label. Raises BadInput ``flow.unknown``.
    """
    x, y = graph.find(source), graph.find(sink)
    wanted = [
        name for name in MECHANISMS
        if (via is None or name in via) and name in graph.by_mechanism
        and graph.by_mechanism[name][x] >> y & 1
    ]
    ends = graph.vertices[x], graph.vertices[y]
    found = [_step(graph, source, sink, ends, name) for name in wanted]
    if layer is Layer.COVERT:
        found += [
            Step(source, sink, channel.id, (), channel.sentence) for channel in covert.CHANNELS
            if (via is None or channel.id in via) and graph.unmediated[channel.id][x] >> y & 1
        ]
    return tuple(found)


def _step(
    graph: FlowGraph, source: str, sink: str, ends: tuple[Vertex, Vertex], mechanism: str
) -> Step:
    a, b = ends
    server = graph.server
    if a.labels and b.labels:
        permitted = [
            (operation, decision)
            for operation, decision in asked(server, LabelName(source), LabelName(sink))
            if operation.mechanism == mechanism and decision.permitted
        ]
        operations = tuple(dict.fromkeys(str(operation) for operation, _ in permitted))
        decision = permitted[0][1]
    else:
        label, resource, access = (a, b, Access.WRITE) if a.labels else (b, a, Access.READ)
        assert resource.kind is not None
        name = source if a.labels else sink
        assert name in label.names
        decision = server.use_entry(LabelName(name), resource.kind, resource.entry, access)
        operations = (str(access),)
    return Step(source, sink, mechanism, operations, decision.sentence, decision)


def asked(
    server: SecurityServer, source: LabelName, sink: LabelName
) -> Iterator[tuple[Operation, Decision]]:
    """The decision on every operation that would carry information from one to the other."""
    for operation in Operation:
        if onward(operation):
            yield operation, server.decide(source, sink, operation)
        if backward(operation):
            yield operation, server.decide(sink, source, operation)


def along(
    graph: FlowGraph, path: Path, layer: Layer, via: Collection[str] | None = None, *,
    source: str | None = None, sink: str | None = None,
) -> tuple[tuple[Step, ...], ...]:
    """Every way to take each step of a path of vertices, a label standing for those like it.

    ``source`` and ``sink`` name the ends, if not the first label of their vertices.
    """
    names = [graph.vertices[index].names[0] for index in path]
    if source is not None:
        names[0] = source
    if sink is not None:
        names[-1] = sink
    return tuple(
        steps(graph, a, b, layer, via) for a, b in pairwise(names)
    )


def needs_both(mechanism: str) -> bool:
    """Whether a step by ``mechanism`` needs both ends to run at the same time.

    One through a disk, a network or a device does not; covert channels do.
    """
    return mechanism in _TOGETHER
