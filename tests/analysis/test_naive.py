"""A plan against the same rules written once more, with sets and loops and no classes.

What a single operation between two labels gets is asked of the security
server, which has a reference model of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.plan import Plan, plan
from shype.analysis.state import Domain, State
from shype.decision.operation import Flow, Operation
from shype.decision.security_server import SecurityServer
from shype.policy.lattice import Lattice, LevelRange
from shype.policy.model import Label, Policy, Retired
from shype.policy.names import CoalitionName, LabelName, MemberName, WallName
from tests.analysis.updates import (
    TODAY,
    Update,
    contexts,
    numbered,
    policies,
    renamed,
    reordered,
    sizes,
    some,
    updates,
)
from tests.policy.strategies import PATIENT

EXCHANGES = [op for op in Operation if op.flow is not Flow.POWER]


class Naive:
    """One update."""

    def __init__(self, update: Update) -> None:
        self.old, self.new, self.state = update.old, update.new, update.state
        self.before, self.now = SecurityServer(update.old), SecurityServer(update.new)
        self.carried = [name for name in self.old.labels if name != self.old.host.dom0]
        self.carried += [*self.old.retired]
        self.guests = [name for name in self.new.labels if name != self.new.host.dom0]

    def after(self, label: LabelName) -> LabelName | None:
        """What a VM labelled ``label`` carries after the reload."""
        if label in self.guests or label in self.new.retired:
            return label
        for name in self.guests:
            if self.new.labels[name].was == label:
                return name
        return None

    def parties(self) -> list[tuple[LabelName | None, LabelName | None]]:
        found: list[tuple[LabelName | None, LabelName | None]] = [
            (self.old.host.dom0, self.new.host.dom0)
        ]
        for label in self.carried:
            after = self.after(label)
            found.append((label, after if after in self.guests else None))
        reached = {now for _, now in found}
        return [*found, *((None, name) for name in self.guests if name not in reached)]

    def pairs(self) -> Iterator[tuple[object, object, Operation, str]]:
        """Every change between two labels."""
        for s in self.parties():
            for o in self.parties():
                for op in Operation:
                    was = s[0] is not None and o[0] is not None and self.before.permits(
                        s[0], o[0], op)
                    now = s[1] is not None and o[1] is not None and self.now.permits(
                        s[1], o[1], op)
                    if was != now:
                        yield s, o, op, "gained" if now else "lost"

    def verdict(self) -> str:
        if any(self.stops()):
            return "impossible"
        return "needs-revocation" if any(self.revocations()) else "clean"

    def stops(self) -> Iterator[bool]:
        old, new = self.old, self.new
        yield old.name not in (new.name, new.was)
        yield new.replaces != old.version
        yield float(new.version) <= float(old.version)
        yield any(g.expires is not None and g.expires <= TODAY for g in new.guards.values())
        yield sizes(old) != sizes(new)
        yield self.state.window_open is True
        for name in self.guests:
            yield name in self.carried and new.labels[name].was in self.carried
        for label in self.running():
            yield label is None or self.stopped(label)
        yield self.wall_broken()

    def running(self) -> list[LabelName | None]:
        found: list[LabelName | None] = []
        for domain in self.state.domains:
            label = domain.label
            if domain.context is not None:
                label = LabelName(domain.context.split(":")[2].removeprefix("t_"))
            found.append(label if label in self.carried else None)
        return found

    def stopped(self, label: LabelName) -> bool:
        """Whether a VM with this label must end before the update. Sizes are equal here."""
        old, new, after = self.old, self.new, self.after(label)
        if after is None:
            return True
        if after in new.retired:
            holders: dict[LabelName, Label | Retired] = {**old.retired, **old.labels}
            declared = {m for wall in new.walls.values() for m in wall.members}
            return any(m in declared and m not in new.retired[after].members
                       for m in holders[label].members)
        if label in old.retired:
            return True
        a, b = old.labels[label], new.labels[after]
        if named(old.levels, a.level) != named(new.levels, b.level):
            return True
        if named(old.integrity, a.integrity) != named(new.integrity, b.integrity):
            return True
        if numbered(old, a) != numbered(new, b):
            return True
        if ranged(old, label) != ranged(new, after):
            return True
        return (old.coalitions_of(label) <= old.labels[old.host.dom0].coalitions
                and not new.coalitions_of(after) <= new.labels[new.host.dom0].coalitions)

    def wall_broken(self) -> bool:
        held: list[frozenset[MemberName]] = []
        for label in self.running():
            after = None if label is None else self.after(label)
            if after is not None:
                both: dict[LabelName, Label | Retired] = {**self.new.retired, **self.new.labels}
                held.append(both[after].members)
        return any(
            x in wall.members and y in wall.members and x != y
            for i, a in enumerate(held) for b in held[:i]
            for x in a for y in b for wall in self.new.walls.values()
        )

    def revocations(self) -> Iterator[bool]:
        labels = dict(zip((d.domid for d in self.state.domains), self.running(), strict=True))
        for label in labels.values():
            yield label in self.old.labels and label in self.new.retired
        everyone = {0: self.old.host.dom0, **{d: la for d, la in labels.items() if la is not None}}
        if self.state.channels is None:
            for i, a in everyone.items():
                for j, b in everyone.items():
                    if 0 not in (i, j) and i != j and self.alive(a) and self.alive(b):
                        yield any(self.lost(a, b, op) for op in EXCHANGES)
            return
        for channel in self.state.channels:
            if channel.a not in everyone or channel.b not in everyone:
                continue
            a, b = everyone[channel.a], everyone[channel.b]
            if isinstance(channel.what, Operation):
                yield not self.still(a, b, channel.what)
                continue
            acts = [(x, y, op) for x, y in ((a, b), (b, a)) for op in EXCHANGES
                    if op.mechanism is channel.what]
            yield any(self.lost(*act) for act in acts)
            yield not any(self.still(*act) for act in acts)

    def alive(self, label: LabelName) -> bool:
        return self.after(label) in self.guests

    def lost(self, a: LabelName, b: LabelName, op: Operation) -> bool:
        return self.before.permits(a, b, op) and not self.still(a, b, op)

    def still(self, a: LabelName, b: LabelName, op: Operation) -> bool:
        ends = [self.new.host.dom0 if x == self.old.host.dom0 else self.after(x) for x in (a, b)]
        return None not in ends and self.now.permits(ends[0], ends[1], op)  # type: ignore[arg-type]


def named(lattice: Lattice | None, held: LevelRange | None) -> object:
    """A range by names."""
    if lattice is None or held is None:
        return None
    return [(lattice.order[x.rank], sorted(x.categories)) for x in (held.low, held.high)]


def ranged(policy: Policy, label: LabelName) -> bool:
    """Whether the label is trusted."""
    held = policy.labels[label]
    return label in policy.guards or any(
        r is not None and r.low != r.high for r in (held.level, held.integrity)
    )


def made(update: Update, *, informed: bool = True) -> Plan:
    """The plan of ``update``."""
    return plan(
        update.old, update.new, contexts(update.old), contexts(update.new), today=TODAY,
        state=update.state if informed else None,
    )


@given(updates())
@settings(PATIENT, max_examples=100)
def test_a_plan_finds_what_the_naive_rules_find(update: Update) -> None:
    naive, found = Naive(update), made(update)
    assert found.verdict == naive.verdict(), [(f.id, f.sentence) for f in found.found]


@given(policies("1.0", renaming=False).filter(lambda old: old.levels is not None), st.data())
@settings(PATIENT, max_examples=25)
def test_levels_in_another_order(old: Policy, data: st.DataObject) -> None:
    """The names stay, the hypervisor's numbers do not."""
    lattice = old.levels
    assert lattice is not None
    old = replace(old, name="p", guards={}, retired={})
    lattice = replace(lattice, order=tuple(data.draw(st.permutations(lattice.order))))
    new = reordered(replace(old, version="1.1", replaces="1.0"), lattice)
    labels = [label.name for label in old.guests if not label.members]
    state = State(tuple(Domain(i, f"vm{i}", name) for i, name in enumerate(labels, 1)), ())
    update = Update(old, new, state)
    assert made(update).verdict == Naive(update).verdict()


@given(updates())
@settings(PATIENT, max_examples=25)
def test_groups_are_exactly_the_pairs_that_change(update: Update) -> None:
    pairs = [
        ((s.old, s.new), (o.old, o.new), op, way)
        for group in made(update, informed=False).groups
        for way, operations in (("gained", group.gained), ("lost", group.lost))
        for op in operations for s in group.subjects for o in group.objects
    ]
    assert len(pairs) == len({*pairs})
    assert {*pairs} == {*Naive(update).pairs()}


@given(updates())
@settings(PATIENT, max_examples=10)
def test_without_a_state_the_policies_alone_decide(update: Update) -> None:
    found = made(update, informed=False)
    assert all(f.weight == "note" for f in found.found if f.conditional)
    assert not any(f.vms for f in found.found if f.id != "plan.dom0-levels")
    assert not found.informed


@given(policies("1.0", renaming=False), st.data())
@settings(PATIENT, max_examples=25)
def test_renames_alone_are_clean_and_change_no_pair(old: Policy, data: st.DataObject) -> None:
    labels = {n: LabelName(f"{n}x") for n in data.draw(some([*old.labels]))}
    coalitions = {n: CoalitionName(f"{n}x") for n in data.draw(some([*old.coalitions]))}
    walls = {n: WallName(f"{n}x") for n in data.draw(some([*old.walls]))}
    unexpired = {n: replace(guard, expires=None) for n, guard in old.guards.items()}
    old = replace(old, name="p", guards=unexpired)
    new = renamed(replace(old, version="1.1", replaces="1.0"), labels, coalitions, walls)
    carried = [*(label.name for label in old.guests), *old.retired]
    state = State(tuple(
        Domain(i, f"vm{i}", label) for i, label in enumerate(carried, 1)
        if not (old.retired[label] if label in old.retired else old.labels[label]).members
    ))
    found = made(Update(old, new, state))
    assert (found.verdict, found.groups, found.found) == ("clean", (), ())
    declared = {"renamed", f"label {old.host.dom0} -> {new.host.dom0}"}
    assert {change.what.partition(",")[0] for change in found.changes} <= declared
