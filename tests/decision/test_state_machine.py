"""Sequences of starts and stops on random hosts, compared with the reference model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Drawn
from hypothesis.stateful import (
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from shype.decision.chinese_wall import ChineseWall, Conflict, NotRunning, WallState
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy
from shype.policy.names import LabelName

from . import reference_model
from .examples import small_policies


class Host(RuleBasedStateMachine):
    """One host: VMs start (if the wall lets them) and stop, in any order."""

    domains: Drawn[Running] = Drawn("domains")

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Running] = []
        self.state = WallState()
        self.next_domid = 1

    @initialize(policy=small_policies())
    def boot(self, policy: Policy) -> None:
        self.policy = policy
        self.server = SecurityServer(policy)
        self.walls = {name: wall.members for name, wall in policy.walls.items()}
        self.wall = ChineseWall(self.walls)
        self.types = {name: label.coalitions for name, label in policy.labels.items()}

    def guest(self, index: int) -> LabelName:
        guests = self.policy.guests
        return guests[index % len(guests)].name

    @rule(target=domains, index=st.integers(0, 5))
    def start(self, index: int) -> Running:
        label = self.guest(index)
        members = self.policy.labels[label].members
        beside = [self.policy.labels[d.label].members for d in self.running]
        expected = reference_model.may_start(self.walls.values(), beside, members)
        authorized = reference_model.may_authorize(
            self.types[self.policy.host.dom0], self.types[label]
        )
        decision = self.server.launch(label, self.running)
        assert decision.permitted is (expected and authorized)
        outcome = self.wall.start(self.state, members)
        assert isinstance(outcome, WallState) is expected
        if isinstance(outcome, Conflict):
            if authorized:
                assert decision.id == "wall.conflict"
                self.check_holders(members, {(h.domid, h.member) for h in decision.holders})
            return multiple()  # type: ignore[return-value]
        if not decision.permitted:
            assert decision.id == "auth.not-authorized"
            return multiple()  # type: ignore[return-value]
        assert decision.id == "wall.free"
        assert not decision.holders
        domain = Running(self.next_domid, f"vm{self.next_domid}", label)
        self.next_domid += 1
        self.running.append(domain)
        self.state = outcome
        return domain

    def check_holders(self, new: frozenset[str], named: set[tuple[int, str]]) -> None:
        """Exactly the domains that hold another member of a conflict set of ours, and which."""
        expected = {
            (domain.domid, theirs)
            for domain in self.running
            for wall in self.walls.values()
            for theirs in self.policy.labels[domain.label].members & wall
            if new & wall - {theirs}
        }
        assert named == expected

    @rule(domain=consumes(domains))
    def stop(self, domain: Running) -> None:
        self.running.remove(domain)
        self.state = self.wall.stop(self.state, self.policy.labels[domain.label].members)

    @rule(index=st.integers(0, 5))
    def stop_of_what_does_not_run(self, index: int) -> None:
        members = self.policy.labels[self.guest(index)].members
        counts = reference_model.running_counts(
            [self.policy.labels[d.label].members for d in self.running]
        )
        if any(member not in counts for member in members):
            with pytest.raises(NotRunning):
                self.wall.stop(self.state, members)

    @invariant()
    def counters_are_those_of_the_model(self) -> None:
        members = [self.policy.labels[d.label].members for d in self.running]
        assert dict(self.state.running) == reference_model.running_counts(members)
        expected = reference_model.aggregate_counts(self.walls.values(), members)
        assert dict(self.state.aggregate) == expected

    @invariant()
    def the_wall_holds(self) -> None:
        assert self.server.violations(self.running) == ()


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
