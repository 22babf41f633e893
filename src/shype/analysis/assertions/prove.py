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
from itertools import chain, islice

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
    By,
    Exactly,
    LevelsKept,
    Never,
    NoneBoth,
    OnlyThrough,
    Selector,
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
        self._names: dict[tuple[By, str], tuple[LabelName, ...]] = {}
        self._groups: dict[tuple[By, str, frozenset[LabelName]], Group] = {}
        self._levels_of: dict[tuple[bool, frozenset[LabelName]], _Levels] = {}

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
        """The paths that count, without those through ``without``."""
        layer = Layer.DOM0 if terms.dom0 else Layer.DRIVER
        via = None if terms.via is None else frozenset(map(str, terms.via))
        key = layer, via, frozenset(without)
        if key not in self._paths:
            self._paths[key] = Paths(self._graph, *key)
        return self._paths[key]

    def _chosen(self, selector: Selector) -> tuple[LabelName, ...]:
        key = selector.by, selector.text
        if key not in self._names:
            self._names[key] = self._known.names(selector)
        return self._names[key]

    def _group(self, selector: Selector, but: frozenset[LabelName] = frozenset()) -> Group:
        key = selector.by, selector.text, but
        if key not in self._groups:
            names = (name for name in self._chosen(selector) if name not in but)
            self._groups[key] = Group(self._graph, names)
        return self._groups[key]

    # -- pairs --------------------------------------------------------------------------------

    def _never(self, assertion: Never) -> Result:
        return self._no_path(assertion, assertion.arrow, self._of(assertion.terms))

    def _only_through(self, assertion: OnlyThrough) -> Result:
        arrow, by = assertion.arrow, assertion.by
        found = self._no_path(assertion, arrow, self._of(assertion.terms, by))
        if not found.holds:
            return found
        sources, sinks = (self._group(side, frozenset(by)) for side in (arrow.source, arrow.sink))
        idle = not self._counted(self._of(assertion.terms), arrow, sources, sinks)
        return Result(assertion, found.about, 0, idle=idle)

    def _no_path(self, assertion: Never | OnlyThrough, arrow: Arrow, paths: Paths) -> Result:
        sources, sinks = (self._group(side, paths.without) for side in (arrow.source, arrow.sink))
        about = len(sources.labels) * len(sinks.labels)
        if not _with_itself(arrow):
            about -= len(sources.names & sinks.names)
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
        common = frozenset[LabelName]() if _with_itself(arrow) else sources.names & sinks.names
        count = 0
        paths.expect(len(sources.at))
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
        sources = self._group(assertion.who, paths.without)
        sinks = self._group(Selector(By.EVERYONE, "", assertion.terms.span), paths.without)
        key = assertion.integrity, paths.without
        if key not in self._levels_of:
            self._levels_of[key] = _Levels(self._graph, sinks, integrity=assertion.integrity)
        levels = self._levels_of[key]
        count, found = 0, list[Violation]()
        paths.expect(len(sources.at))
        # A label with itself never falls: its own level, or range, is on both sides.
        about = len(sources.labels) * len(sinks.labels) - len(sources.labels)
        for vertex, names in sources.at.items():
            forbidden = levels.forbidden(vertex)
            if not forbidden:
                continue
            bad = paths.row(vertex) & forbidden
            count += len(names) * sinks.count(bad)
            pairs = ((a, b) for at in bits.each(bad) for a in names for b in sinks.at[at])
            for a, b in islice(pairs, self._shown - len(found)):
                found.append(self._violation(paths, a, b, self._fall(a, b, assertion.integrity)))
        return Result(assertion, about, count, tuple(found))

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
        groups = [self._group(one) for one in assertion.groups]
        near = [
            paths.forward(group.mask) if assertion.receiving else paths.backward(group.mask)
            for group in groups
        ]
        who = self._group(assertion.who)
        sure, suspects = who.mask & near[0] & near[1], who.mask
        for group, reached in zip(groups, near, strict=True):
            suspects &= reached | group.mask
        # The rest are of one group themselves, or only like one that is.
        guilty = [
            name for vertex in bits.each(suspects & ~sure) for name in who.at[vertex]
            if all(
                name in group.names or reached >> vertex & 1
                for group, reached in zip(groups, near, strict=True)
            )
        ]
        count = len(guilty) + who.count(sure)
        first = chain(guilty, (name for vertex in bits.each(sure) for name in who.at[vertex]))
        found = tuple(
            self._both(assertion, paths, groups, name) for name in islice(first, self._shown)
        )
        return Result(assertion, len(who.labels), count, found)

    def _both(
        self, assertion: NoneBoth, paths: Paths, groups: Sequence[Group], name: LabelName
    ) -> Violation:
        at, ends, trails = self._graph.of[name], list[LabelName](), []
        for group in groups:
            if name in group.names:
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


class _Levels:
    """The levels, or integrities, of all sinks of an assertion about them."""

    def __init__(self, graph: FlowGraph, sinks: Group, *, integrity: bool) -> None:
        self._graph, self._integrity = graph, integrity
        held = [
            self._range(vertex) if vertex in sinks.at else None for vertex in range(len(graph))
        ]
        self._order = Order(held)
        self._leveled = bits.of(vertex for vertex, one in enumerate(held) if one is not None)
        self._forbidden: dict[LevelRange | None, int] = {None: 0}

    def forbidden(self, source: int) -> int:
        """The sinks at which nothing of ``source`` may arrive.

        As `rights.confidential` and `rights.intact`, for all sinks at once.
        """
        point = self._range(source)
        if point not in self._forbidden:
            assert point is not None
            kept = self._order.below(point.high) if self._integrity \
                else self._order.above(point.low)
            self._forbidden[point] = self._leveled & ~kept
        return self._forbidden[point]

    def _range(self, vertex: int) -> LevelRange | None:
        label = self._graph.server.policy.labels[self._graph.vertices[vertex].labels[0]]
        return label.integrity if self._integrity else label.level


def _with_itself(arrow: Arrow) -> bool:
    """Whether a label with itself is meant: two VMs of one label, named on both sides."""
    return arrow.source.single and arrow.sink.single
