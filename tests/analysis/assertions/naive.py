"""Assertions once more, by brute force: every state of a host is visited, and who knows what in it.

Nothing of the flow graph, of the walls' analysis or of the security server is
used. A configuration is who runs and what holds a copy of one label's
information: VMs, disks and bridges. Whoever can hand it on does so at once,
which loses nothing: more knowledge never closes a way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache, cached_property

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
)
from shype.policy.model import Policy
from tests.analysis.flows.moves import BACK, FORTH, TOGETHER
from tests.decision import reference_model as model
from tests.decision.small_policies import TODAY, resource_of, world_of

SIX = {"event", "grant", "argo", "disk", "network", "xenstore"}


class Naive:
    """One small policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.world = world_of(policy, TODAY)
        self.dom0 = self.world.dom0
        self.labels = [name for name in self.world.labels if name != self.dom0]
        self.ways = dict(self._ways())

    def _ways(self) -> Iterator[tuple[tuple[str, str], set[str]]]:
        """By what each can hand something to each, if both are there; with resources."""
        def may(s: str, o: str, operation: str) -> bool:
            return model.may_do(self.world, s, o, operation) <= model.PERMISSIONS

        for a in self.world.labels:
            for b in self.world.labels:
                yield (a, b), {
                    m for m in FORTH
                    if any(may(a, b, op) for op in FORTH[m])
                    or any(may(b, a, op) for op in BACK.get(m, []))
                }
            for entry in self.policy.resources if a != self.dom0 else ():
                thing, name = resource_of(entry.label), f"{entry.kind}:{entry.pattern}"
                for pair, access in (((a, name), "write"), ((name, a), "read")):
                    used = model.may_use(self.world, a, entry.kind, thing, access)
                    allowed = used <= model.PERMISSIONS
                    yield pair, {str(entry.kind)} if allowed else set()

    @cached_property
    def resources(self) -> list[str]:
        return [f"{e.kind}:{e.pattern}" for e in self.policy.resources]

    def may_start(self, label: str, running: Collection[str]) -> bool:
        held = [model.held(self.world, one) for one in running]
        return model.may_start(self.world.walls.values(), held, model.held(self.world, label))

    def runs(self, labels: Collection[str]) -> set[frozenset[str]]:
        """Every set of labels that can run at once, of ``labels``; dom0 always does."""
        ahead, seen = [frozenset({self.dom0})], set[frozenset[str]]()
        while ahead:
            running = ahead.pop()
            if running not in seen:
                seen.add(running)
                ahead += [running | {n} for n in labels if n not in running
                          and self.may_start(n, running)]
                ahead += [running - {n} for n in running if n != self.dom0]
        return seen

    def hands(self, a: str, b: str, via: frozenset[str] | None) -> set[str]:
        """By what a hands something to b, of ``via``."""
        found = self.ways.get((a, b), set())
        return found if via is None else found & via

    def direct(self, a: str, b: str, via: frozenset[str] | None) -> bool:
        """In one step, in some state."""
        found = self.hands(a, b, SIX if via is None else via)  # type: ignore[arg-type]
        beside = self.may_start(a, [a]) if a == b else any(
            {a, b} <= running for running in self.runs([a, b]))
        return bool(found - TOGETHER) or (beside and bool(found & TOGETHER))

    @cache  # noqa: B019 - few policies live that long
    def arrivals(
        self, source: str, via: frozenset[str] | None, without: frozenset[str], through_dom0: bool
    ) -> frozenset[str]:
        """All labels at which information of ``source`` arrives."""
        labels = [name for name in self.labels if name not in without]
        arrived: set[str] = set()
        start = frozenset({self.dom0})
        ahead = [(start, frozenset[str]())]
        seen: set[tuple[frozenset[str], frozenset[str]]] = set()
        while ahead:
            running, knows = ahead.pop()
            knows = self._spread(source, via, through_dom0, running, knows, arrived)
            if (running, knows) in seen:
                continue
            seen.add((running, knows))
            for name in labels:
                if name in running:
                    ahead.append((running - {name}, knows - {name}))
                elif self.may_start(name, running):
                    ahead.append((running | {name}, knows))
        return frozenset(arrived)

    def _spread(
        self, source: str, via: frozenset[str] | None, through_dom0: bool,
        running: frozenset[str], knows: frozenset[str], arrived: set[str],
    ) -> frozenset[str]:
        """Who knows it when all in this state have handed on what they can."""
        present = {*running} - (set() if through_dom0 else {self.dom0})
        known, before = {*knows} | ({source} & present), None
        while known != before:
            before = {*known}
            for a in before & present:
                for b in present:
                    ways = self.hands(a, b, via)
                    if ways & TOGETHER and (a != b or self.may_start(a, [a])):
                        known.add(b)
                        arrived.add(b)
                for b in self.world.labels:  # what lies on a disk for b, or is on a wire to it
                    if self.hands(a, b, via) - TOGETHER:
                        known.add(f"{a}~{b}")
                known |= {r for r in self.resources if self.hands(a, r, via)}
            for b in present:
                waiting = any(f"{a}~{b}" in before for a in self.world.labels)
                if waiting or any(self.hands(r, b, via) for r in before & {*self.resources}):
                    known.add(b)
                    arrived.add(b)
        return frozenset(known)

    # -- assertions ---------------------------------------------------------------------------

    def names(self, selector: Selector) -> list[str]:
        """The labels that it chooses."""
        from fnmatch import fnmatchcase

        def chosen(name: str) -> bool:
            label = self.world.labels[name]
            match selector.by:
                case By.EVERYONE:
                    return True
                case By.COALITION:
                    return selector.text in self.policy.labels[name].coalitions  # type: ignore[index]
                case By.WALL:
                    return selector.text in label.members
            return fnmatchcase(name, selector.text)
        return [name for name in self.labels if chosen(name)]

    def pairs(self, arrow: Arrow) -> set[tuple[str, str]]:
        """The pairs that it is about."""
        named = all(
            one.by is By.PATTERN and one.text.isalnum() for one in (arrow.source, arrow.sink))
        return {
            (a, b) for a in self.names(arrow.source) for b in self.names(arrow.sink)
            if a != b or named
        }

    def violating(self, assertion: Assertion) -> set[tuple[str, ...]]:
        """All pairs of labels, or labels, in which it does not hold."""
        via, dom0 = assertion.terms.via, assertion.terms.dom0
        words = None if via is None else frozenset(map(str, via))

        def arrives(a: str, b: str, without: Collection[str] = ()) -> bool:
            return b in self.arrivals(a, words, frozenset(without), dom0)

        match assertion:
            case Never():
                return {pair for pair in self.pairs(assertion.arrow) if arrives(*pair)}
            case OnlyThrough():
                by = assertion.by
                return {
                    (a, b) for a, b in self.pairs(assertion.arrow)
                    if a not in by and b not in by and arrives(a, b, by)
                }
            case Exactly():
                listed = {pair for arrow in assertion.arrows for pair in self.pairs(arrow)}
                among = {name for pair in listed for name in pair}
                for one in assertion.among or ():
                    among |= {*self.names(one)}
                for arrow in assertion.arrows:
                    among |= {*self.names(arrow.source), *self.names(arrow.sink)}
                there = {
                    (a, b) for a in among for b in among
                    if (a != b or (a, b) in listed) and self.direct(a, b, words)
                }
                return set(there ^ listed)
            case LevelsKept():
                trusted = assertion.trusted
                without = {n for n, label in self.world.labels.items() if label.guard} \
                    if trusted is None else {*trusted}
                return {
                    (a, b) for a in self.names(assertion.who) for b in self.labels
                    if not {a, b} & without and self._falls(a, b, assertion.integrity)
                    and arrives(a, b, without)
                }
            case NoneBoth():
                first, second = map(self.names, assertion.groups)

                def near(x: str, group: list[str]) -> bool:
                    return x in group or any(
                        arrives(one, x) if assertion.receiving else arrives(x, one)
                        for one in group)
                return {(x,) for x in self.names(assertion.who)
                        if near(x, first) and near(x, second)}

    def _falls(self, a: str, b: str, integrity: bool) -> bool:
        one, two = self.world.labels[a], self.world.labels[b]
        if integrity:
            return one.integrity is not None and two.integrity is not None and (
                not model.dominates(one.integrity[1], two.integrity[0]))
        return one.level is not None and two.level is not None and (
            not model.dominates(two.level[1], one.level[0]))


