"""Which rules of a policy its tests cover: those that determined an answer that was expected.

A rule counts if a decision says that it follows from it (`Decision.rules`), and
for a part of a rule, if the answer depended on this part.  That a label or a
coalition is named in a question counts for nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shype.analysis.suites.model import Outcome
from shype.analysis.suites.questions import YES, Told
from shype.analysis.suites.rules import Rule, RuleKind, rules_of
from shype.decision.ids import DecisionId
from shype.decision.operation import Flow
from shype.decision.resources import Access
from shype.decision.rights import flows
from shype.decision.security_server import SecurityServer
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy, ResourceLabel
from shype.policy.names import LabelName
from shype.policy.source import Span

_GUARDS = frozenset({
    DecisionId.GUARD_PASSES, DecisionId.GUARD_DIRECTION, DecisionId.GUARD_CHAIN,
    DecisionId.GUARD_EXPIRED,
})
#: Found by their span in a decision's rules, whatever it decided.
_BY_SPAN = frozenset({
    RuleKind.COALITION, RuleKind.LABEL, RuleKind.LEVELS, RuleKind.RESOURCE,
    RuleKind.RESOURCE_LABEL, RuleKind.RETIRED,
})


@dataclass(frozen=True, slots=True)
class Covered:
    """A rule, and how many tests it determined to permit and to deny."""

    rule: Rule
    permit: int
    deny: int

    @property
    def covered(self) -> bool:
        """Whether any test depends on it."""
        return self.permit + self.deny > 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """The rules of all policies that were tested, policy by policy."""

    rules: tuple[Covered, ...]

    @property
    def missed(self) -> tuple[Rule, ...]:
        """The rules that determined nothing."""
        return tuple(found.rule for found in self.rules if not found.covered)

    @property
    def percent(self) -> float:
        """How many of the rules are covered; every policy has at least its dom0's label."""
        return 100 * (len(self.rules) - len(self.missed)) / max(1, len(self.rules))

    def to_json(self) -> dict[str, object]:
        """Shape of ``coverage`` in ``shype test --json``."""
        return {
            "percent": round(self.percent, 1), "rules": len(self.rules),
            "covered": len(self.rules) - len(self.missed),
            "each": [
                {"kind": found.rule.kind, "name": found.rule.name, "detail": found.rule.detail,
                 "rule": str(found.rule), "at": str(found.rule.span),
                 "permit": found.permit, "deny": found.deny}
                for found in self.rules
            ],
        }


def coverage(outcomes: Iterable[Outcome]) -> Coverage:
    """Of the policies that ``outcomes`` are about. A test that failed covers nothing."""
    by_policy: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_policy[outcome.test.policy].append(outcome)
    return Coverage(tuple(
        covered for mine in by_policy.values()
        for covered in _Counter(mine[0].test.server.policy).counted(mine)
    ))


class _Counter:
    """Counts for one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = tuple(rules_of(policy))
        self._by_span: dict[Span, list[Rule]] = defaultdict(list)
        self._by_part: dict[tuple[RuleKind, str, str], Rule] = {}
        for rule in self._rules:
            if rule.kind in _BY_SPAN:
                self._by_span[rule.span].append(rule)
            self._by_part[rule.kind, rule.name, rule.detail] = rule
        self._resource_labels: Mapping[Span, ResourceLabel] = {
            entry.label.span: entry.label for entry in policy.resources
        }

    def counted(self, outcomes: Iterable[Outcome]) -> Iterator[Covered]:
        counts: dict[Rule, list[int]] = {rule: [0, 0] for rule in self._rules}
        for outcome in outcomes:
            if not outcome.passed:
                continue
            told = outcome.answer.told
            if not told or outcome.answer.way:
                continue
            if outcome.answer.choice:  # any of them would do: what they share determined it
                each = [self._determining(outcome.test.server, one) for one in told]
                determining = set.intersection(*each)
            else:
                determining = set().union(
                    *(self._determining(outcome.test.server, one) for one in told))
            for rule in determining:
                counts[rule][0 if outcome.answer.word == YES else 1] += 1
        for rule in self._rules:
            yield Covered(rule, *counts[rule])

    def _determining(self, server: SecurityServer, told: Told) -> set[Rule]:
        decision = told.decision
        found = {rule for span in decision.rules for rule in self._by_span.get(span, ())}
        parts = {*self._of_sharing(server, told), *self._of_labels(told), *self._of_levels(told)}
        return found | {self._by_part[part] for part in parts if part in self._by_part}

    def _of_sharing(
        self, server: SecurityServer, told: Told
    ) -> Iterator[tuple[RuleKind, str, str]]:
        """Memberships, openings and write-up, by which something was permitted."""
        decision = told.decision
        mechanism = told.operation.mechanism if told.operation is not None else None
        if told.resource is not None and told.resource[0] == "network":
            mechanism = Mechanism.NETWORK
        for coalition in decision.shared:
            for label in told.labels:
                yield RuleKind.MEMBERSHIP, label, coalition
            if mechanism is not None:
                yield RuleKind.OPENING, coalition, mechanism
            if self._blind(server, told):
                yield RuleKind.WRITE_UP, coalition, ""

    @staticmethod
    def _blind(server: SecurityServer, told: Told) -> bool:
        """Whether it is permitted only because it may be blind: nothing may come back."""
        if told.resource is not None:
            kind, name, access = told.resource
            return access is Access.WRITE and not server.use(
                told.labels[0], kind, name, Access.READ).permitted
        if told.operation is None or told.operation.flow is not Flow.PUSH:
            return False
        subject, object = (server.classes.rights[server.classes.of[n]] for n in told.labels[:2])
        return not (flows(subject, object) and flows(object, subject))

    def _of_labels(self, told: Told) -> Iterator[tuple[RuleKind, str, str]]:
        """Walls, guards and what a label switches off, by which something was decided."""
        decision, policy = told.decision, self._policy
        rules = frozenset(decision.rules)
        if decision.id in _GUARDS:
            for guard in policy.guards.values():
                if guard.span in rules:
                    yield RuleKind.GUARD, guard.name, ""
        if decision.id == DecisionId.MECHANISM_OFF:
            off = told.operation.mechanism if told.operation is not None else Mechanism.NETWORK
            for label in told.labels:
                if policy.labels[label].span in rules:
                    yield RuleKind.SWITCHED_OFF, label, off
        if decision.id == DecisionId.WALL_CONFLICT:
            held = {m for label in told.labels for m in self._members(label)}
            for wall in policy.walls.values():
                if wall.span in rules:
                    yield RuleKind.WALL, wall.name, ""
                    for member in held & wall.members:
                        yield RuleKind.WALL_MEMBER, wall.name, member

    def _members(self, label: LabelName) -> frozenset[str]:
        tomb = self._policy.retired.get(label)
        return frozenset(tomb.members if tomb is not None else self._policy.labels[label].members)

    def _of_levels(self, told: Told) -> Iterator[tuple[RuleKind, str, str]]:
        """The sensitivities and categories of those about whom a lattice decided."""
        rules = frozenset(told.decision.rules)
        things = [self._resource_labels[span] for span in rules if span in self._resource_labels]
        of_levels = [self._policy.labels[n] for n in told.labels if n in self._policy.labels]
        for what, lattice in (
            ("levels", self._policy.levels), ("integrity", self._policy.integrity)
        ):
            if lattice is None or (lattice.span not in rules and not things):
                continue
            name = "level" if what == "levels" else what
            held = [*(getattr(label, name) for label in of_levels),
                    *(getattr(thing, name) for thing in things)]
            if things and any(level is not None for level in held):
                yield RuleKind.LEVELS, what, ""
            for level in held:
                yield from _names(what, lattice, level)


def _names(
    what: str, lattice: Lattice, held: Level | LevelRange | None
) -> Iterator[tuple[RuleKind, str, str]]:
    if held is None:
        return
    for level in (held.low, held.high) if isinstance(held, LevelRange) else (held,):
        yield RuleKind.LEVEL, what, lattice.order[level.rank]
        for category in level.categories:
            yield RuleKind.CATEGORY, what, category
