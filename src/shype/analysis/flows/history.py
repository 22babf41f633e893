"""How a path happens in time: the states of a host, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.steps import Step, needs_both
from shype.analysis.walls.coexistence import State, Walls
from shype.policy.names import LabelName


def history(
    graph: FlowGraph, walls: Walls, steps: Sequence[Sequence[Step]]
) -> tuple[State, ...]:
    """The states in which the ``steps`` of a path (each with its ways) happen, in order.

    Empty if fewer than two labels are on it. A resource between two labels
    keeps what one writes until the other reads it, so these need not run at
    the same time. `State.step` counts labels, not resources.
    """
    names = [steps[0][0].source, *(ways[0].sink for ways in steps)]
    labels = [name for name in names if graph.vertices[graph.of[name]].labels]
    if len(labels) < 2:
        return ()
    apart, number = [], 0
    ways_to = dict(zip(pairwise(names), steps, strict=True))
    at = names.index(labels[0])
    for name in names[at + 1:]:
        before = names[at]
        at += 1
        if name not in labels:
            continue
        direct = ways_to.get((before, name), ())
        through_resource = before not in labels
        if through_resource or not all(needs_both(way.mechanism) for way in direct):
            apart.append(number)
        number += 1
    return walls.trace([LabelName(name) for name in labels], apart)
