"""Between two domains: the verdict on every operation, by the classes of their labels.

Simple Type Enforcement (Sailer et al., ACSAC 2005) says who may share at all,
mechanisms say by what, levels (Bell-LaPadula, Biba) say in which direction,
and guards are the declared exceptions to both. dom0 serves those it may run.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import date
from itertools import product

from shype.decision.ids import DecisionId
from shype.decision.operation import Flow, Operation
from shype.decision.rights import Classes, Rights, confidential, flows, intact
from shype.policy.mechanism import Mechanism
from shype.policy.model import Coalition, Policy
from shype.policy.names import CoalitionName

#: The verdicts of one class on another, by `INDEX` of the operation.
AccessVector = tuple[DecisionId, ...]
#: The vectors of one subject, by class of the object; every class that is missing is `UNRELATED`.
Row = Mapping[int, AccessVector]

#: Position of an operation in an access vector.
INDEX: Mapping[Operation, int] = {op: index for index, op in enumerate(Operation)}
#: The vector of two classes that have nothing to do with each other.
UNRELATED: AccessVector = tuple(
    DecisionId.HOST_ONLY if op.flow is Flow.POWER else DecisionId.STE_DISJOINT for op in Operation
)


class Sharing:
    """Decides between classes. Immutable; ``today`` is None where no guard shall expire."""

    def __init__(self, policy: Policy, classes: Classes, today: date | None) -> None:
        self._classes = classes
        self._rights = classes.rights
        self.coalitions: Mapping[CoalitionName, Coalition] = policy.coalitions
        self._today = today
        self._special = [n for n, r in enumerate(classes.rights) if r.dom0 or r.retired]
        self._guards = [n for n, r in enumerate(classes.rights) if r.guard is not None]
        self._unusual = [r.dom0 or r.retired or r.guard is not None for r in classes.rights]
        self._leveled = any(r.level or r.integrity for r in classes.rights)
        self._dom0 = next(r for r in classes.rights if r.dom0)
        self._vectors: dict[object, AccessVector] = {}
        # What each coalition opens, and whether for a blind write up, as one number.
        kinds = {kind: 1 << n for n, kind in enumerate(product(Mechanism, (False, True)))}
        self._opens = {
            name: sum(kinds[m, c.write_up] for m in c.mechanisms)
            for name, c in policy.coalitions.items()
        }

    def row(self, subject: int) -> Row:
        """The vectors of ``subject`` on every class that it is not unrelated to.

        Their number is that of the classes in its coalitions; of dom0's, that of all.
        """
        rights, classes = self._rights, self._classes
        mine = rights[subject]
        if mine.dom0 or mine.retired:
            candidates: set[int] = {*range(len(rights))}
        else:
            candidates = {*self._special}
            for coalition in mine.coalitions:
                candidates.update(classes.in_coalition[coalition])
            if mine.guard is not None:
                candidates.update(self._guards)
        vector = self.vector
        return {n: vector(subject, n) for n in candidates}

    def vector(self, subject: int, object: int) -> AccessVector:
        """The verdicts of class ``subject`` on class ``object``."""
        s, o = self._rights[subject], self._rights[object]
        if self._unusual[subject] or self._unusual[object]:
            return self._unusual_vector(s, o)
        shared = s.coalitions & o.coalitions
        if not shared:
            return UNRELATED
        opened = 0
        for name in shared:
            opened |= self._opens[name]
        # All that `verdict` looks at between two such labels; few combinations occur.
        on = s.mechanisms & o.mechanisms
        if not self._leveled:
            return self._computed(s, o, (opened, on))
        return self._computed(s, o, (
            opened, on, confidential(s, o), confidential(o, s), intact(s, o), intact(o, s),
        ))

    def opens(self, name: CoalitionName) -> int:
        """What a coalition opens, and whether for a blind write up: bits, of no meaning outside."""
        return self._opens[name]

    def _unusual_vector(self, s: Rights, o: Rights) -> AccessVector:
        if s.retired or o.retired:
            return self._computed(s, o, (True,))
        if s.dom0 or o.dom0:
            guest = o if s.dom0 else s
            allowed = guest.coalitions <= self._dom0.coalitions
            return self._computed(s, o, (s.dom0, o.dom0, allowed, guest.locked))
        return self._compute(s, o)

    def _computed(self, s: Rights, o: Rights, key: tuple[Hashable, ...]) -> AccessVector:
        vector = self._vectors.get(key)
        if vector is None:
            vector = self._vectors[key] = self._compute(s, o)
        return vector

    def _compute(self, subject: Rights, object: Rights) -> AccessVector:
        return tuple(self.verdict(subject, object, op) for op in Operation)

    def verdict(self, subject: Rights, object: Rights, operation: Operation) -> DecisionId:
        """Why ``operation`` is permitted or denied, between two different domains."""
        if subject.retired or object.retired:
            return DecisionId.LABEL_RETIRED
        if subject.dom0 or object.dom0:
            return self._with_dom0(subject, object, operation)
        if operation.flow is Flow.POWER:
            return DecisionId.HOST_ONLY
        if subject.guard is not None or object.guard is not None:
            return self._at_guard(subject, object, operation)
        shared = subject.coalitions & object.coalitions
        if not shared:
            return DecisionId.STE_DISJOINT
        closed = self.closed(subject, object, operation.mechanism, shared)
        return closed or self._by_level(subject, object, operation, shared)

    def opening(
        self, shared: frozenset[CoalitionName], mechanism: Mechanism
    ) -> frozenset[CoalitionName]:
        """Those of ``shared`` that open ``mechanism``."""
        return frozenset(c for c in shared if mechanism in self.coalitions[c].mechanisms)

    def closed(
        self, a: Rights, b: Rights, mechanism: Mechanism, shared: frozenset[CoalitionName]
    ) -> DecisionId | None:
        """Why ``mechanism`` is not there between two labels that share ``shared``, or None."""
        if not self.opening(shared, mechanism):
            return DecisionId.MECHANISM_CLOSED
        if mechanism not in a.mechanisms or mechanism not in b.mechanisms:
            return DecisionId.MECHANISM_OFF
        return None

    # -- levels -------------------------------------------------------------------------------

    def _by_level(
        self, subject: Rights, object: Rights, operation: Operation,
        shared: frozenset[CoalitionName],
    ) -> DecisionId:
        there, back = flows(subject, object), flows(object, subject)
        if there and back:
            return DecisionId.STE_SHARED
        if operation.flow is Flow.BOTH:
            equal = confidential(subject, object) and confidential(object, subject)
            return DecisionId.BIBA_NOT_EQUAL if equal else DecisionId.MLS_NOT_EQUAL
        onward = back if operation.from_object else there
        source, sink = (object, subject) if operation.from_object else (subject, object)
        if not onward:
            return refused_flow(source, sink, operation)
        if operation.flow is Flow.PULL:
            return DecisionId.STE_SHARED
        opening = self.opening(shared, operation.mechanism)
        if any(self.coalitions[name].write_up for name in opening):
            return DecisionId.STE_SHARED
        same = confidential(source, sink) and confidential(sink, source)
        return DecisionId.BIBA_WRITE_DOWN if same else DecisionId.MLS_WRITE_UP

    # -- guards -------------------------------------------------------------------------------

    def _at_guard(self, subject: Rights, object: Rights, operation: Operation) -> DecisionId:
        if subject.guard is not None and object.guard is not None:
            return DecisionId.GUARD_CHAIN
        guard = subject.guard or object.guard
        assert guard is not None
        peer = object if subject.guard is not None else subject
        if not {guard.source, guard.sink} & peer.coalitions:
            return DecisionId.STE_DISJOINT
        if self._today is not None and guard.expired(self._today):
            return DecisionId.GUARD_EXPIRED
        pairs = {(subject, object): not operation.from_object,
                 (object, subject): operation.from_object or needs_both_at_guard(operation)}
        for (source, sink), needed in pairs.items():
            refusal = self._through(source, sink, operation) if needed else None
            if refusal is not None:
                return refusal
        return DecisionId.GUARD_PASSES

    def _through(self, source: Rights, sink: Rights, operation: Operation) -> DecisionId | None:
        """Why information may not move from ``source`` to ``sink``, one of which is a guard."""
        if sink.guard is not None:
            coalition, peer = sink.guard.source, source
        else:
            assert source.guard is not None
            coalition, peer = source.guard.sink, sink
        if coalition not in peer.coalitions:
            return DecisionId.GUARD_DIRECTION
        closed = self.closed(source, sink, operation.mechanism, frozenset({coalition}))
        if closed is not None:
            return closed
        return None if flows(source, sink) else refused_flow(source, sink, operation)

    # -- dom0 ---------------------------------------------------------------------------------

    def _with_dom0(self, subject: Rights, object: Rights, operation: Operation) -> DecisionId:
        if operation is Operation.ARGO_SEND:
            return DecisionId.HOST_NO_ARGO
        if subject.dom0 and object.dom0:
            return DecisionId.HOST_SELF
        guest = object if subject.dom0 else subject
        if object.dom0 and operation.flow is Flow.POWER:
            return DecisionId.HOST_ONLY
        if not guest.coalitions <= self._dom0.coalitions:
            return DecisionId.AUTH_NOT_AUTHORIZED
        if guest.locked and operation is Operation.FOREIGN_MAP:
            return DecisionId.LABEL_LOCKED
        if object.dom0 and operation in (Operation.MAP_READ, Operation.MAP_WRITE):
            return DecisionId.HOST_NO_MAP
        return DecisionId.AUTH_DOM0


def refused_flow(source: Rights, sink: Rights, operation: Operation) -> DecisionId:
    """The id for a flow that levels or integrity forbid, seen from who acts."""
    reads = operation.from_object
    if not confidential(source, sink):
        if needs_both_at_guard(operation):  # either way may be the one that is refused
            return DecisionId.MLS_NOT_EQUAL
        return DecisionId.MLS_READ_UP if reads else DecisionId.MLS_WRITE_DOWN
    assert not intact(source, sink)
    if needs_both_at_guard(operation):
        return DecisionId.BIBA_NOT_EQUAL
    return DecisionId.BIBA_READ_DOWN if reads else DecisionId.BIBA_WRITE_UP


def needs_both_at_guard(operation: Operation) -> bool:
    """Whether ``operation`` is two-way even at a guard, where a channel can notify one way only."""
    return operation.flow is Flow.BOTH and operation.mechanism is not Mechanism.EVENT
