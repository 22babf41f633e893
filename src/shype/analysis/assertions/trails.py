"""From a path of vertices to steps with their rules, and to the states in which they are taken."""

from __future__ import annotations

from itertools import pairwise

from shype.analysis.assertions.reach import Paths
from shype.analysis.assertions.result import Trail
from shype.analysis.flows.digraph import Path
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.steps import Step, needs_both, steps
from shype.analysis.walls.coexistence import Walls
from shype.policy.names import LabelName

#: Of several mechanisms for one step, the one that carries most is shown.
_ORDER = ("grant", "argo", "event")


def trail(paths: Paths, walls: Walls, path: Path, source: LabelName, sink: LabelName) -> Trail:
    """The path from ``source`` to ``sink`` along the vertices ``path``."""
    names = [source, *(paths.label(vertex) for vertex in path[1:-1]), sink]
    taken = tuple(
        chosen(steps(paths.graph, a, b, paths.layer, paths.via))
        for a, b in pairwise(names)
    )
    return shown(paths.graph, walls, taken)


def shown(graph: FlowGraph, walls: Walls, taken: tuple[Step, ...]) -> Trail:
    """The trail of these steps."""
    labels = [LabelName(taken[0].source)]
    apart: set[int] = set()
    resting = False  # on a resource, which keeps what it got
    for step in taken:
        if not graph.vertices[graph.of[step.sink]].labels:
            resting = True
            continue
        if resting or not needs_both(step.mechanism):
            apart.add(len(labels) - 1)
        resting = False
        labels.append(LabelName(step.sink))
    return Trail(taken, walls.trace(labels, apart), walls.reachable(labels))


def chosen(found: tuple[Step, ...]) -> Step:
    """Of the ways to take a step, the one to show."""
    return min(found, key=lambda step: (
        _ORDER.index(step.mechanism) if step.mechanism in _ORDER else len(_ORDER)
    ))
