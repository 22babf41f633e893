"""What the demonstration tries, and what the policy says must happen.

The scenario is derived from the policy, so any policy with a ``vms:`` section can be
demonstrated.  Expectations come from the security server alone; outcomes come from a
`Stage`: the lab's hypervisor, or the in-process model, clearly marked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from shype.decision.decision import Decision
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.lab.probe import SHARING, Way
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId

#: From one VM to another.
Pair: TypeAlias = tuple[VmId, VmId]

#: The VM that nobody labelled.
STRAY = VmId("stray")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What really happened: ``permitted``, ``denied`` or ``error``; decided by whom; the words.

    ``rule`` is the id of the decision that was reported, if one was.
    """

    result: str
    by: str
    explanation: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: attempt, who, what the policy expects, what happened."""

    attempt: str
    who: str
    expected: str
    rule: str
    outcome: Outcome

    @property
    def as_expected(self) -> bool:
        """Whether the outcome, and the rule given for it, are those that the policy demands.

        An error never is, and a refusal for another reason is not either.
        """
        return self.outcome.result == self.expected and self.outcome.rule in ("", self.rule)


class Stage(Protocol):
    """Where a scenario is played."""

    def launch(self, vm: VmId) -> Outcome:
        """``shype run`` of the VM's configuration."""

    def launch_behind(self, tries: Sequence[tuple[VmId, LabelName | None]]) -> list[Outcome]:
        """``xl create`` by root in dom0, behind shype's back, with the label's context or none."""

    def probe(self, vms: Sequence[VmId]) -> Mapping[Pair, Mapping[Way, Outcome]]:
        """What each of ``vms`` can really do to each other one, an outcome for each way."""

    def stop(self, vm: VmId) -> None:
        """``shype stop``."""


class Scenario:
    """Plays every kind of attempt on a stage, in an order in which each means something."""

    def __init__(self, policy: Policy, stage: Stage) -> None:
        self._policy = policy
        self._server = SecurityServer(policy)
        self._stage = stage
        self._running: dict[VmId, LabelName] = {}

    def play(self) -> Iterator[Line]:
        """All attempts, one line each, as they happen."""
        refused: list[VmId] = []
        for vm in self._policy.assignments:
            line = self._launch(vm)
            if vm not in self._running:
                refused.append(vm)
            yield line
        yield self._launch_stray()
        yield from self._behind(refused)
        yield from self._probe_all(set())
        yield from self._change_sides(refused)

    def _change_sides(self, refused: list[VmId]) -> Iterator[Line]:
        """Stop whoever holds the wall against the first refused VM; then it must start."""
        if not refused:
            return
        label = self._policy.assignments[refused[0]].label
        decision = self._server.launch(label, self._domains())
        holders = {VmId(holder.vm) for holder in decision.holders}
        known = set(self._running)
        for vm in sorted(holders):
            self._stage.stop(vm)
            del self._running[vm]
        for vm in refused:
            yield self._launch(vm)
        yield from self._probe_all(known)

    def _launch(self, vm: VmId) -> Line:
        label = self._policy.assignments[vm].label
        decision = self._server.launch(label, self._domains())
        outcome = self._stage.launch(vm)
        if outcome.result == "permitted":
            self._running[vm] = label
        return _line(f"start {vm} as {label}", "shype run", decision, outcome)

    def _launch_stray(self) -> Line:
        if self._policy.unlabeled is None:
            rule, expected = "label.none", "denied"
        else:
            decision = self._server.launch(self._policy.unlabeled.name, self._domains())
            rule, expected = decision.id, _word(decision)
        outcome = self._stage.launch(STRAY)
        return Line(f"start {STRAY}, which has no label", "shype run", expected, rule, outcome)

    def _behind(self, refused: Sequence[VmId]) -> Iterator[Line]:
        """Behind shype's back nothing may ever start, whatever the label."""
        tries: list[tuple[VmId, LabelName | None]] = [(STRAY, None)]
        how = ["no label"]
        for vm in refused[:1]:
            tries.append((vm, self._policy.assignments[vm].label))
            how.append("its own label, against the wall")
            for runner in list(self._running)[-1:]:
                tries.append((vm, self._running[runner]))
                how.append(f"the wrong label {self._running[runner]}")
        for vm in list(self._running)[:1]:
            tries.append((VmId(f"{vm}-twin"), self._running[vm]))
            how.append(f"the correct label {self._running[vm]}")
        outcomes = self._stage.launch_behind(tries)
        for (vm, label), words, outcome in zip(tries, how, outcomes, strict=True):
            rule = self._rule_behind(label)
            yield Line(f"xl create {vm} with {words}", "root in dom0", "denied", rule, outcome)

    def _rule_behind(self, label: LabelName | None) -> str:
        if label is None:
            return "create.unlabelled"
        decision = self._server.launch(label, self._domains())
        return "create.no-window" if decision.permitted else decision.id

    def _probe_all(self, known: set[VmId]) -> Iterator[Line]:
        """Every ordered pair of running VMs that has not been tried yet."""
        for pair, outcomes in self._stage.probe(list(self._running)).items():
            if not set(pair) <= known:
                yield from self._probed(pair, outcomes)

    def _probed(self, pair: Pair, outcomes: Mapping[Way, Outcome]) -> Iterator[Line]:
        source, target = pair
        # One line for the ways that the same rule decides and that had the same outcome.
        groups: dict[tuple[str, str, str], list[Way]] = {}
        decisions: dict[tuple[str, str, str], Decision] = {}
        for attempt, outcome in outcomes.items():
            decision = attempt.decide(
                self._server, self._running[source], self._running[target]
            )
            key = (decision.id, outcome.result, outcome.rule)
            groups.setdefault(key, []).append(attempt)
            decisions.setdefault(key, decision)
        for key, attempts in groups.items():
            first = outcomes[attempts[0]]
            yield _line(
                f"{source} -> {target}: {_ways(attempts)}", f"guest {source}",
                decisions[key], first,
            )

    def _domains(self) -> list[Running]:
        return [Running(n, vm, label) for n, (vm, label) in enumerate(self._running.items(), 1)]


def _ways(attempts: Sequence[Way]) -> str:
    if len(attempts) == len(SHARING):
        return "event channel, grant map and copy, Argo"
    return ", ".join(attempts)


def _word(decision: Decision) -> str:
    return "permitted" if decision.permitted else "denied"


def with_rule(sentence: str, rules: Sequence[object]) -> str:
    """A sentence and the line of the policy that it follows from."""
    return " ".join([sentence, *(f"({rule})" for rule in rules)])


def _line(attempt: str, who: str, decision: Decision, outcome: Outcome) -> Line:
    explanation = outcome.explanation or with_rule(decision.sentence, decision.rules[:1])
    return Line(
        attempt, who, _word(decision), decision.id,
        replace(outcome, explanation=explanation),
    )
