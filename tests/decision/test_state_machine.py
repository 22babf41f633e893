"""Histories of random hosts, compared with the reference model.

VMs start and stop, days pass (guards expire), and policies replace each other:
labels get new names, or retire while a VM still carries them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shype.decision.chinese_wall import ChineseWall, Conflict, NotRunning, WallState
from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy, Retired
from shype.policy.names import LabelName, MemberName

from . import reference_counters
from . import reference_model as model
from .small_policies import TODAY, renamed, small_policies, world_of
from .test_reference_model import ids

ANY = st.integers(0, 11)


class Host(RuleBasedStateMachine):
    """One host, on which VMs start if the policy lets them, from one day and policy to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Running] = []
        self.state = WallState()
        self.next_domid = 1
        self.today = TODAY
        self.names = 0

    @initialize(policy=small_policies())
    def boot(self, policy: Policy) -> None:
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """Another policy or another day."""
        self.policy = policy
        self.server = SecurityServer(policy, today=self.today)
        self.world = world_of(policy, self.today)
        self.wall = ChineseWall({name: wall.members for name, wall in policy.walls.items()})

    def label(self, index: int) -> LabelName:
        """Any label that a VM has or had, dom0's too."""
        names = [*self.policy.labels, *self.policy.retired]
        return names[index % len(names)]

    def members(self, label: LabelName) -> frozenset[MemberName]:
        return frozenset(map(MemberName, model.held(self.world, label)))

    @rule(index=ANY)
    def start(self, index: int) -> None:
        label = self.label(index)
        reasons = model.may_launch(self.world, label, [d.label for d in self.running])
        decision = self.server.launch(label, self.running)
        assert decision.id in ids(reasons)
        assert decision.permitted is (reasons <= model.PERMISSIONS)
        outcome = self.wall.start(self.state, self.members(label))
        if reasons == {"wall"}:
            assert isinstance(outcome, Conflict)
            self.check_holders(label, {(h.domid, h.member) for h in decision.holders})
        else:
            assert not decision.holders
        if decision.permitted:
            assert isinstance(outcome, WallState)
            self.state = outcome
            self.running.append(Running(self.next_domid, f"vm{self.next_domid}", label))
            self.next_domid += 1

    def check_holders(self, label: LabelName, named: set[tuple[int, MemberName]]) -> None:
        """Exactly the domains that hold another member of a conflict set of ours, and which."""
        expected = {
            (domain.domid, theirs)
            for domain in self.running
            for wall in self.world.walls.values()
            for theirs in self.members(domain.label) & wall
            if self.members(label) & wall - {theirs}
        }
        assert named == expected

    @precondition(lambda self: self.running)
    @rule(index=ANY)
    def stop(self, index: int) -> None:
        domain = self.running.pop(index % len(self.running))
        self.state = self.wall.stop(self.state, self.members(domain.label))

    @rule(index=ANY)
    def stop_of_what_does_not_run(self, index: int) -> None:
        members = self.members(self.label(index))
        counts = reference_counters.running_counts([self.members(d.label) for d in self.running])
        if any(member not in counts for member in members):
            with pytest.raises(NotRunning):
                self.wall.stop(self.state, members)

    @rule(days=st.integers(1, 2))
    def days_pass(self, days: int) -> None:
        self.today += timedelta(days=days)
        self.adopt(self.policy)

    @rule(index=ANY)
    def update_with_a_new_name(self, index: int) -> None:
        """A label is called something else; whoever carries it, carries that."""
        names = list(self.policy.labels)
        self.names += 1
        self.update(renamed(self.policy, names[index % len(names)], LabelName(f"n{self.names}")))

    @rule(index=ANY)
    def update_that_retires(self, index: int) -> None:
        """A label goes and leaves a tombstone."""
        guests = self.policy.guests
        if guests:
            gone = guests[index % len(guests)].name
            labels = {name: label for name, label in self.policy.labels.items() if name != gone}
            tomb = Retired(gone, self.policy.host.span, self.members(gone))
            self.update(replace(
                self.policy, labels=labels, retired={**self.policy.retired, tomb.name: tomb},
                guards={name: g for name, g in self.policy.guards.items() if name != gone},
                host=replace(self.policy.host, drivers=self.policy.host.drivers - {tomb.name}),
            ))

    def update(self, new: Policy) -> None:
        """The new policy holds from now on, also for what runs."""
        self.adopt(new)
        kept = []
        for domain in self.running:
            label = model.carried_over(self.world, domain.label)
            assert label is not None
            kept.append(replace(domain, label=LabelName(label)))
        self.running = kept

    @invariant()
    def counters_are_those_of_the_model(self) -> None:
        members = [self.members(d.label) for d in self.running]
        assert dict(self.state.running) == reference_counters.running_counts(members)
        expected = reference_counters.aggregate_counts(self.world.walls.values(), members)
        assert dict(self.state.aggregate) == expected

    @invariant()
    def the_wall_holds(self) -> None:
        assert self.server.violations(self.running) == ()

    @rule(a=ANY, b=ANY)
    def what_runs_may_do_what_the_model_says(self, a: int, b: int) -> None:
        if self.running:
            subject, object = (self.running[i % len(self.running)].label for i in (a, b))
            for operation in Operation:
                reasons = model.may_do(self.world, subject, object, operation)
                decision = self.server.decide(subject, object, operation)
                assert decision.id in ids(reasons)
                assert decision.permitted is (reasons <= model.PERMISSIONS)


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
