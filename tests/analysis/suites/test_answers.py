"""Answers: those of test files written by the reference model, which knows no server."""

from __future__ import annotations

from itertools import product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.suites.running import run
from shype.policy.loader import check_text
from shype.policy.model import Policy
from tests.analysis.suites.given import made_from
from tests.decision import reference_model as model
from tests.decision.small_policies import TODAY, policies_with_resources, resource_of, world_of

HEAD = f"shype-test: 1\npolicy: given.yaml\ntoday: {TODAY}\ntests:\n  drawn:\n"
MECHANISMS = ("event", "grant", "argo", "disk", "network", "xenstore")
TOGETHER = ("event", "grant", "argo", "xenstore")  # of these, both must run
NAMES = {"disk": "/dev/x", "network": "br-y"}


class Naive:
    """What a person would answer who has the policy on paper, and time."""

    def __init__(self, policy: Policy) -> None:
        self.world = world_of(policy, TODAY)
        self.labels = [*self.world.labels, *self.world.retired]
        self.drivers = {str(name) for name in policy.host.drivers}
        self.things = {
            entry.kind.value: resource_of(entry.label) for entry in policy.resources
            if not entry.label.inaccessible
        }
        self.all_things = {entry.kind.value: resource_of(entry.label) for entry in policy.resources}

    def beside(self, a: str, b: str) -> bool:
        """No wall is between them."""
        return model.may_start(
            self.world.walls.values(), [model.held(self.world, a)], model.held(self.world, b))

    def may(self, a: str, b: str, operation: str) -> bool:
        """Permitted."""
        return model.may_do(self.world, a, b, operation) <= model.PERMISSIONS

    def arrives(self, a: str, b: str, mechanisms: tuple[str, ...]) -> bool:
        """Information of a gets to b in one step."""
        for operation, (mechanism, both, _) in model.OPERATIONS.items():
            if mechanism not in mechanisms:
                continue
            if mechanism in TOGETHER and not self.beside(a, b):
                continue
            ways = [model.S_TO_O] if mechanism == "event" else both
            if model.S_TO_O in ways and self.may(a, b, operation):
                return True
            if model.O_TO_S in ways and self.may(b, a, operation):
                return True
        return False

    def uses(self, a: str, kind: str, access: str) -> bool:
        """A VM may use the resource."""
        found = model.may_use(self.world, a, kind, self.all_things.get(kind), access)
        return found <= model.PERMISSIONS

    def reaches(self, a: str, b: str, avoided: frozenset[str] = frozenset()) -> bool:
        """Information gets from a to b, past nobody of ``avoided`` and not through dom0."""
        if a in self.world.retired or b in self.world.retired:
            return False
        seen: set[str] = set()
        edge = [a]
        while edge:
            here = edge.pop()
            for there in (*self.world.labels, *self.things):
                if not self._step(here, there):
                    continue
                if there == b:
                    return True
                if there not in seen and there not in avoided and there != self.world.dom0:
                    seen.add(there)
                    edge.append(there)
        return False

    def _step(self, here: str, there: str) -> bool:
        if here in self.things:
            return there in self.world.labels and there != self.world.dom0 and self.uses(
                there, here, "read")
        if there in self.things:
            return here != self.world.dom0 and self.uses(here, there, "write")
        power = self.world.dom0 in (here, there) and self.beside(here, there) and (
            self.may(here, there, "foreign.map") or self.may(there, here, "foreign.map"))
        return power or self.arrives(here, there, MECHANISMS)

    def question(self, choose: Random) -> tuple[str, str, str]:
        """A question, the right answer, and a wrong one."""
        a, b = choose.choices(self.labels, k=2)
        match choose.randrange(7):
            case 0:
                op = choose.choice([*model.OPERATIONS, *model.POWER])
                return _said(f"may {a} -> {b} via {op}", self.may(a, b, op))
            case 1:
                mechanism = choose.choice(MECHANISMS)
                return _said(f"may {a} -> {b} via {mechanism}", self.arrives(a, b, (mechanism,)))
            case 2:
                return _said(f"may {a} -> {b}", self.arrives(a, b, MECHANISMS))
            case 3:
                kind, access = choose.choice([*NAMES]), choose.choice(["read", "write", ""])
                to = f" to {access}" if access else ""
                return _said(f"may {a} use {kind} {NAMES[kind]}{to}",
                             self.uses(a, kind, access or "read-write"))
            case 4:
                return self._start(a, choose.choices(self.labels, k=choose.randrange(4)))
            case 5:
                alone = all(model.may_launch(self.world, x, []) == {"free"} for x in (a, b))
                return _said(f"may {a} run beside {b}", alone and self.beside(a, b))
            case _:
                return self._flow(a, b, choose)

    def _start(self, a: str, running: list[str]) -> tuple[str, str, str]:
        while not all(
            model.may_start(self.world.walls.values(),
                            [model.held(self.world, x) for x in running[:at]],
                            model.held(self.world, running[at]))
            for at in range(len(running))
        ):
            running.pop()
        state = f" while {', '.join(running)} run" if running else ""
        free = model.may_launch(self.world, a, running) == {"free"}
        return _said(f"may {a} start{state}", free)

    def _flow(self, a: str, b: str, choose: Random) -> tuple[str, str, str]:
        through = choose.choice(self.labels)
        ways = f"only through {through}"
        if not self.reaches(a, b):
            return f"flows {a} -> {b}", "no", choose.choice(["yes", ways])
        if self.reaches(a, b, frozenset({through})):
            return f"flows {a} -> {b}", "yes", choose.choice(["no", ways])
        return f"flows {a} -> {b}", ways, "no"


def _said(question: str, yes: bool) -> tuple[str, str, str]:
    return (question, "yes", "no") if yes else (question, "no", "yes")


@settings(deadline=None, max_examples=30)
@given(policies_with_resources(), st.integers(0, 2**32))
def test_the_model_s_answers_pass_and_every_other_fails(policy: Policy, seed: int) -> None:
    choose, naive = Random(seed), Naive(policy)
    asked = [naive.question(choose) for _ in range(20)]
    for passes in (True, False):
        text = HEAD + "".join(
            f"    - {question}: {right if passes else wrong}\n" for question, right, wrong in asked
        )
        tests = made_from(text, policy, TODAY)
        assert len(tests) == len(asked)
        for outcome, line in zip(run(tests), asked, strict=True):
            assert outcome.passed is passes, (line, outcome.got)


@settings(deadline=None, max_examples=25)
@given(policies_with_resources())
def test_who_cannot_run_together_gives_no_answer(policy: Policy) -> None:
    naive = Naive(policy)
    apart = [(a, b) for a, b in product(naive.labels, repeat=2) if not naive.beside(a, b)]
    for a, b in apart[:3]:
        for answer in ("yes", "no"):
            text = f"{HEAD}    - may {naive.labels[0]} start while {a}, {b} run: {answer}\n"
            (outcome,) = run(made_from(text, policy, TODAY))
            assert not outcome.passed
            assert outcome.answer.word == "no answer"
            assert {decision.id for decision in outcome.decisions} == {"wall.conflict"}


TWINS = """\
shype: 1
policy: {name: p, version: "1.0"}
coalitions: [left, right]
labels:
  host: {coalitions: all}
  a: {coalitions: [left]}
  twin-1: {coalitions: [left, right]}
  twin-2: {coalitions: [left, right]}
  b: {coalitions: [right]}
host: {dom0: host}
"""


def test_of_labels_that_are_alike_each_is_a_way_of_its_own() -> None:
    policy, _ = check_text(TWINS, "p.yaml", TODAY)
    assert policy is not None
    for answer, got in (
        ("yes", "yes (a -> twin-1 -> b)"),
        ("only through twin-1", "yes (a -> twin-2 -> b)"),
        ("only through twin-1 or twin-2", "only through twin-1 or twin-2 (a -> twin-1 -> b)"),
        ("only through twin-*", "only through twin-1 or twin-2 (a -> twin-1 -> b)"),
        ("only through host", "yes (a -> twin-1 -> b)"),
    ):
        (outcome,) = run(made_from(f"{HEAD}    - flows a -> b: {answer}\n", policy, TODAY))
        assert outcome.got == got
        assert outcome.passed is (answer == "yes" or answer.count("twin") == 2 or "*" in answer)
