"""The proof of assertions over the flow graph of a policy.

What is proved is about all flows that the policy permits, over time: a step by
event channel, grant or Argo needs a reachable state of a host in which both
ends run, and a VM that goes on running carries what it knows into the next
state.  Disks keep and networks take away what they get.  Guards, shared disks,
bridges, devices and driver domains are passed like anything else, because an
assertion that trusts one of them should say so; dom0 only if it is asked for.
Channels that the policy does not mediate (`shype.analysis.flows.covert`) are
no part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from shype.analysis.assertions import direct
from shype.analysis.assertions.reach import Group, Paths
from shype.analysis.assertions.result import Result, Violation
from shype.analysis.assertions.trails import trail
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.vertex import Layer
from shype.analysis.walls.coexistence import Walls
from shype.base import bits
from shype.decision.order import Order
from shype.decision.security_server import SecurityServer
from shype.policy.assertions import (
    Arrow,
    Assertion,
    Exactly,
    LevelsKept,
    Never,
    NoneBoth,
    OnlyThrough,
    Terms,
    choice,
)
from shype.policy.lattice import LevelRange
from shype.policy.names import LabelName

#: Violations of one assertion that are shown with their path.
SHOWN = 3


def prove(
    server: SecurityServer, graph: FlowGraph, assertions: Sequence[Assertion], *,
    shown: int = SHOWN,
) -> tuple[Result, ...]:
    """The verdict on each of ``assertions``, which must be valid for the server's policy.

    ``graph`` is the whole flow graph of ``server``.  ``shown``: how many
    violations of each are given with path and states; all are counted.
    """
    prover = _Prover(server, graph, shown)
    return tuple(map(prover.result, assertions))


class _Prover:
    """One policy, and what its assertions have in common."""

    def __init__(self, server: SecurityServer, graph: FlowGraph, shown: int) -> None:
        self._server, self._graph, self._shown = server, graph, shown
        self._known = choice(server.policy)
        self._walls = Walls(server)
        self._paths: dict[tuple[Layer, frozenset[str] | None, frozenset[LabelName]], Paths] = {}

    def result(self, assertion: Assertion) -> Result:
        match assertion:
            case Never():
                return self._never(assertion)
            case OnlyThrough():
                return self._only_through(assertion)
            case Exactly():
                return direct.exactly(
                    self._server, self._graph, self._walls, self._known, assertion, self._shown)
            case LevelsKept():
                return self._levels(assertion)
            case NoneBoth():
                return self._none_both(assertion)

    def _of(self, terms: Terms, without: Collection[LabelName] = ()) -> Paths:
        key = (
            Layer.DOM0 if terms.dom0 else Layer.DRIVER,
            None if terms.via is None else frozenset(map(str, terms.via)), frozenset(without),
        )
        if key not in self._paths:
            self._paths[key] = Paths(self._graph, *key)
        return self._paths[key]

    # -- pairs --------------------------------------------------------------------------------

    def _never(self, assertion: Never) -> Result:
        return self._no_path(assertion, assertion.arrow, self._of(assertion.terms))

    def _only_through(self, assertion: OnlyThrough) -> Result:
        arrow, by = assertion.arrow, assertion.by
        found = self._no_path(assertion, arrow, self._of(assertion.terms, by))
        if not found.holds:
            return found
        sources, sinks = self._ends(arrow, by)
        idle = not self._counted(self._of(assertion.terms), arrow, sources, sinks)
        return Result(assertion, found.about, 0, idle=idle)

    def _ends(self, arrow: Arrow, by: Collection[LabelName]) -> tuple[Group, Group]:
        sources, sinks = (
            Group(self._graph, (n for n in self._known.names(side) if n not in by))
            for side in (arrow.source, arrow.sink)
        )
        return sources, sinks

    def _no_path(self, assertion: Never | OnlyThrough, arrow: Arrow, paths: Paths) -> Result:
        sources, sinks = self._ends(arrow, paths.without)
        about = len(sources.labels) * len(sinks.labels)
        if not _with_itself(arrow):
            about -= len({*sources.labels} & {*sinks.labels})
        count = self._counted(paths, arrow, sources, sinks)
        found = []
        if count:
            passing = f" past {', '.join(sorted(paths.without))}" if paths.without else ""
            for a, b in islice(self._pairs(paths, arrow, sources, sinks), self._shown):
                found.append(self._violation(
                    paths, a, b, f"information of {a} arrives at {b}{passing}"))
        return Result(assertion, about, count, tuple(found))

    def _counted(self, paths: Paths, arrow: Arrow, sources: Group, sinks: Group) -> int:
        """How many pairs of ``arrow`` have a path."""
        if not paths.forward(sources.mask) & sinks.mask:
            return 0
        common = {*sources.labels} & {*sinks.labels} if not _with_itself(arrow) else set()
        count = 0
        for vertex, names in sources.at.items():
            reached = paths.row(vertex) & sinks.mask
            count += len(names) * sinks.count(reached)
            if common and reached >> vertex & 1:
                count -= sum(name in common for name in names)
        return count

    def _pairs(
        self, paths: Paths, arrow: Arrow, sources: Group, sinks: Group
    ) -> Iterable[tuple[LabelName, LabelName]]:
        """The pairs of ``arrow`` that have a path."""
        for a in sources.labels:
            reached = paths.row(self._graph.of[a]) & sinks.mask
            for b in sinks.labels if reached else ():
                if reached >> self._graph.of[b] & 1 and (a != b or _with_itself(arrow)):
                    yield a, b

    def _violation(self, paths: Paths, a: LabelName, b: LabelName, sentence: str) -> Violation:
        path = paths.shortest(self._graph.of[a], self._graph.of[b])
        assert path is not None
        return Violation((a, b), sentence, (trail(paths, self._walls, path, a, b),))

    # -- levels -------------------------------------------------------------------------------

    def _levels(self, assertion: LevelsKept) -> Result:
        policy = self._server.policy
        trusted = tuple(policy.guards) if assertion.trusted is None else assertion.trusted
        paths = self._of(assertion.terms, trusted)
        sources = Group(
            self._graph, (n for n in self._known.names(assertion.who) if n not in trusted))
        sinks = Group(
            self._graph, (LabelName(n) for n in self._known.labels if n not in trusted))
        held = [
            self._range(vertex, assertion.integrity) if vertex in sinks.at else None
            for vertex in range(len(self._graph))
        ]
        order = Order(held)
        leveled = bits.of(vertex for vertex, one in enumerate(held) if one is not None)
        forbidden: dict[LevelRange | None, int] = {None: 0}
        count, found = 0, list[Violation]()
        # A label with itself never falls: its own level, or range, is on both sides.
        about = len(sources.labels) * len(sinks.labels) - len(sources.labels)
        for vertex, names in sources.at.items():
            point = self._range(vertex, assertion.integrity)
            if point not in forbidden:
                assert point is not None
                # As `rights.confidential` and `rights.intact`, for all sinks at once.
                kept = order.below(point.high) if assertion.integrity else order.above(point.low)
                forbidden[point] = leveled & ~kept
            if not forbidden[point]:
                continue
            bad = paths.row(vertex) & forbidden[point]
            count += len(names) * sinks.count(bad)
            pairs = ((a, b) for at in bits.each(bad) for a in names for b in sinks.at[at])
            for a, b in islice(pairs, self._shown - len(found)):
                found.append(self._violation(paths, a, b, self._fall(a, b, assertion.integrity)))
        return Result(assertion, about, count, tuple(found))

    def _range(self, vertex: int, integrity: bool) -> LevelRange | None:
        label = self._server.policy.labels[LabelName(self._graph.vertices[vertex].labels[0])]
        return label.integrity if integrity else label.level

    def _fall(self, a: LabelName, b: LabelName, integrity: bool) -> str:
        policy = self._server.policy
        lattice = policy.integrity if integrity else policy.levels
        held = [
            policy.labels[name].integrity if integrity else policy.labels[name].level
            for name in (a, b)
        ]
        assert lattice is not None
        shown = [lattice.show_range(one) if one is not None else "none" for one in held]
        what = "integrity" if integrity else "level"
        return f"information of {a} ({what} {shown[0]}) arrives at {b} ({what} {shown[1]})"

    # -- both ---------------------------------------------------------------------------------

    def _none_both(self, assertion: NoneBoth) -> Result:
        paths = self._of(assertion.terms)
        groups = [Group(self._graph, self._known.names(one)) for one in assertion.groups]
        inside = [{*group.labels} for group in groups]
        near = [
            paths.forward(group.mask) if assertion.receiving else paths.backward(group.mask)
            for group in groups
        ]
        who = self._known.names(assertion.who)
        guilty = [
            name for name in who
            if all(
                name in own or reached >> self._graph.of[name] & 1
                for own, reached in zip(inside, near, strict=True)
            )
        ]
        found = tuple(
            self._both(assertion, paths, groups, name) for name in guilty[: self._shown]
        )
        return Result(assertion, len(who), len(guilty), found)

    def _both(
        self, assertion: NoneBoth, paths: Paths, groups: Sequence[Group], name: LabelName
    ) -> Violation:
        at, ends, trails = self._graph.of[name], list[LabelName](), []
        for group in groups:
            if name in group.labels:
                ends.append(name)
                continue
            pairs = (
                (other, (self._graph.of[other], at) if assertion.receiving
                 else (at, self._graph.of[other])) for other in group.labels
            )
            other, path = next(
                (other, path) for other, ends_of in pairs
                if (path := paths.shortest(*ends_of)) is not None
            )
            ends.append(other)
            source, sink = (other, name) if assertion.receiving else (name, other)
            trails.append(trail(paths, self._walls, path, source, sink))
        others = [end for end in ends if end != name]
        verb = "receives information of" if assertion.receiving else "sends information to"
        if len(others) == 2:
            said = f"{name} {verb} both {others[0]} and {others[1]}"
        else:
            said = f"{name}, of one of the two groups, {verb} {others[0]} of the other"
        return Violation((name,), said, tuple(trails))


def _with_itself(arrow: Arrow) -> bool:
    """Whether a label with itself is meant: two VMs of one label, named on both sides."""
    return arrow.source.single and arrow.sink.single
