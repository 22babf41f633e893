"""What a test asks the security server, and how its decisions become one answer.

Nothing here decides: every answer is the server's, or several of its answers
together (all are denials, or one is a permission), or the flow graph's, which
is made of the server's answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from shype.analysis.flows.carrying import TOGETHER, backward, onward
from shype.analysis.flows.digraph import Digraph, Path
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.steps import along
from shype.analysis.flows.vertex import Layer
from shype.base import bits
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName

#: The answers. The last is none: the VMs of ``while`` cannot run together themselves.
YES, NO, NO_ANSWER = "yes", "no", "no answer"
#: Where `flows` looks for a way: through other VMs, guards, what VMs share, driver domains. Not
#: through dom0, which all trust and which reaches all.
LAYER = Layer.DRIVER


@dataclass(frozen=True, slots=True)
class Told:
    """A decision of the server, about whom it is and what they would do.

    ``labels``: who acts first, then the others.  Either ``operation`` or
    ``resource`` (kind, name, access) is there, or neither (walls, authorization).
    """

    decision: Decision
    labels: tuple[LabelName, ...]
    operation: Operation | None = None
    resource: tuple[ResourceKind, str, Access] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer in a word or two, and the decisions that made it so, the most telling first.

    ``choice``: one of several mechanisms would do, so that none of them alone
    determined the answer.  ``way``: of a flow, the labels and resources that
    it passes; then ``told`` has a decision for each step, and determined
    nothing, since there may be other ways.
    """

    word: str
    told: tuple[Told, ...]
    choice: bool = False
    way: tuple[str, ...] = ()


def _answer(permitted: bool, *told: Told, choice: bool = False) -> Answer:
    return Answer(YES if permitted else NO, told, choice)


@dataclass(frozen=True, slots=True)
class Operate:
    """May ``subject`` do ``operation`` to ``object``?"""

    subject: LabelName
    object: LabelName
    operation: Operation

    def __str__(self) -> str:
        return f"may {self.subject} -> {self.object} via {self.operation}"

    def ask(self, server: SecurityServer) -> Answer:
        """The server's decision."""
        decision = server.decide(self.subject, self.object, self.operation)
        told = Told(decision, (self.subject, self.object), self.operation)
        return _answer(decision.permitted, told)


@dataclass(frozen=True, slots=True)
class Arrive:
    """May information of ``source`` arrive at ``sink`` directly, by ``mechanism`` (None: any)?"""

    source: LabelName
    sink: LabelName
    mechanism: Mechanism | None = None

    def __str__(self) -> str:
        via = f" via {self.mechanism}" if self.mechanism else ""
        return f"may {self.source} -> {self.sink}{via}"

    def ask(self, server: SecurityServer) -> Answer:
        """Permitted iff the server permits an operation that carries it, and both can run then."""
        mechanisms = [m for m in Mechanism if m in SWITCHABLE and self.mechanism in (None, m)]
        apart = self._apart(server)
        permitted: dict[Mechanism, Told] = {}
        denied: list[Told] = []
        for mechanism in mechanisms:
            if apart is not None and mechanism in TOGETHER:
                denied.append(apart)
                continue
            ways = carriers(self.source, self.sink, mechanism)
            asked = [self._told(server, *way) for way in ways]
            found = next((told for told in asked if told.decision.permitted), None)
            if found is not None:
                permitted[mechanism] = found
            denied += asked
        if permitted:
            return _answer(True, *permitted.values(), choice=len(permitted) > 1)
        return _answer(False, *_each_reason(denied))

    def _apart(self, server: SecurityServer) -> Told | None:
        """Why the two never run at the same time, if a wall says so."""
        if {self.source, self.sink} & server.policy.retired.keys():
            return None
        together = server.together(self.source, self.sink)
        return None if together.permitted else Told(together, (self.source, self.sink))

    @staticmethod
    def _told(
        server: SecurityServer, subject: LabelName, object: LabelName, operation: Operation
    ) -> Told:
        return Told(server.decide(subject, object, operation), (subject, object), operation)


@dataclass(frozen=True, slots=True)
class UseResource:
    """May ``label`` use a resource?"""

    label: LabelName
    kind: ResourceKind
    name: str
    access: Access = Access.READ_WRITE

    def __str__(self) -> str:
        to = "" if self.access is Access.READ_WRITE else f" to {self.access}"
        return f"may {self.label} use {self.kind} {self.name}{to}"

    def ask(self, server: SecurityServer) -> Answer:
        """The server's decision. Raises BadInput ``resource.mixed``."""
        decision = server.use(self.label, self.kind, self.name, self.access)
        told = Told(decision, (self.label,), resource=(self.kind, self.name, self.access))
        return _answer(decision.permitted, told)


@dataclass(frozen=True, slots=True)
class Start:
    """May a VM labelled ``label`` start while VMs with the labels ``running`` run?"""

    label: LabelName
    running: tuple[LabelName, ...] = ()

    def __str__(self) -> str:
        beside = f" while {', '.join(self.running)} run" if self.running else ""
        return f"may {self.label} start{beside}"

    def ask(self, server: SecurityServer) -> Answer:
        """The server's decision, if the state can be at all."""
        running = tuple(Running(n, name, name) for n, name in enumerate(self.running, 1))
        wrong = server.violations(running)
        if wrong:
            return Answer(NO_ANSWER, tuple(Told(decision, self.running) for decision in wrong))
        decision = server.launch(self.label, running)
        return _answer(decision.permitted, Told(decision, (self.label, *self.running)))


@dataclass(frozen=True, slots=True)
class Beside:
    """May VMs labelled ``a`` and ``b`` run on this host at the same time?"""

    a: LabelName
    b: LabelName

    def __str__(self) -> str:
        return f"may {self.a} run beside {self.b}"

    def ask(self, server: SecurityServer) -> Answer:
        """Permitted iff dom0 may run each, and no wall separates them."""
        labels = dict.fromkeys((self.a, self.b))
        each = [Told(server.launch(label, ()), (label,)) for label in labels]
        denied = tuple(told for told in each if not told.decision.permitted)
        if denied:
            return _answer(False, *denied)
        together = Told(server.together(self.a, self.b), (self.a, self.b))
        if not together.decision.permitted:
            return _answer(False, together)
        return _answer(True, together, *each)


@dataclass(frozen=True, slots=True)
class Flows:
    """Does information of ``source`` get to ``sink``, however many steps it takes?

    ``through``: the labels through which it may; empty: any, or none.
    """

    source: LabelName
    sink: LabelName
    through: tuple[LabelName, ...] = ()

    def __str__(self) -> str:
        return f"flows {self.source} -> {self.sink}"

    def ask(self, server: SecurityServer) -> Answer:
        """Yes with the shortest way, no, or ``only through`` if no way avoids those labels.

        A way that avoids them is shown if there is one.
        """
        graph = _graph(server)
        if self.source not in graph.of or self.sink not in graph.of:  # retired
            return Answer(NO, ())
        source, sink = graph.of[self.source], graph.of[self.sink]
        around = self._way(graph, source, sink, {*self.through})
        way = around or self._way(graph, source, sink, set())
        if way is None:
            return Answer(NO, ())
        steps = along(graph, way, LAYER, source=self.source, sink=self.sink)
        # Of labels that nothing tells apart, one that is to be avoided is not the one to show.
        names = (self.source, *(self._shown(graph, v) for v in way[1:-1]), self.sink)
        told = tuple(
            Told(one.decision, (self.source, self.sink))
            for step in steps for one in step[:1] if one.decision is not None
        )
        word = YES if around is not None else only_through(self.through)
        return Answer(word, told, way=names)

    @staticmethod
    def _way(graph: FlowGraph, source: int, sink: int, avoided: set[LabelName]) -> Path | None:
        """A shortest way on which no label of ``avoided`` is needed between the ends."""
        passable = graph.passable(LAYER) & ~bits.of(
            index for index, vertex in enumerate(graph.vertices)
            if vertex.labels and avoided.issuperset(vertex.labels)
        )
        return Digraph([
            row if passable >> index & 1 or index == source else 0
            for index, row in enumerate(graph.rows(LAYER))
        ]).shortest(source, sink)

    def _shown(self, graph: FlowGraph, index: int) -> str:
        names = graph.vertices[index].names
        return next((name for name in names if name not in self.through), names[0])


Question: TypeAlias = Operate | Arrive | UseResource | Start | Beside | Flows


def only_through(labels: tuple[LabelName, ...]) -> str:
    """The answer for a flow that has no other way."""
    return f"only through {' or '.join(labels)}"


@lru_cache(4)
def _graph(server: SecurityServer) -> FlowGraph:
    return FlowGraph(server)


#: By mechanism, the operations that carry information, and whether the sender is who acts.
_CARRIERS = {
    mechanism: [
        (op, ahead)
        for op in Operation if op.mechanism is mechanism
        for ahead, moves in ((True, onward), (False, backward)) if moves(op)
    ]
    for mechanism in Mechanism
}


def carriers(
    source: LabelName, sink: LabelName, mechanism: Mechanism
) -> list[tuple[LabelName, LabelName, Operation]]:
    """Who does what to whom so that information of ``source`` arrives at ``sink``."""
    return [
        (source, sink, op) if ahead else (sink, source, op) for op, ahead in _CARRIERS[mechanism]
    ]


def _each_reason(denied: list[Told]) -> list[Told]:
    """Of denials with one id, between the same by one mechanism, one: they say the same."""
    seen: dict[tuple[object, ...], Told] = {}
    for told in denied:
        mechanism = told.operation.mechanism if told.operation is not None else None
        seen.setdefault((told.decision.id, mechanism), told)
    return list(seen.values())
