"""What a proof says: an assertion holds, or here is a path that it forbids, and when it is open."""

from __future__ import annotations

from dataclasses import dataclass

from shype.analysis.assertions.ids import AssertId
from shype.analysis.flows.steps import Step
from shype.analysis.walls.coexistence import State
from shype.decision.decision import Decision
from shype.decision.wording import listed
from shype.policy.assertions import Assertion, kind_of, sentence
from shype.policy.names import LabelName
from shype.policy.source import Finding, Severity


@dataclass(frozen=True, slots=True)
class Trail:
    """A path, one step after the other, and the states of one host in which it is taken.

    ``at_once``: whether all its labels may run at the same time; otherwise a
    VM that goes on running carries the information from state to state.
    """

    steps: tuple[Step, ...]
    states: tuple[State, ...]
    at_once: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The labels and resources on the path, in order."""
        return (self.steps[0].source, *(step.sink for step in self.steps))

    def to_json(self) -> dict[str, object]:
        """Shape of a path in ``shype check --json``."""
        return {
            "path": list(self.names), "at_once": self.at_once,
            "steps": [step.to_json() for step in self.steps],
            "states": [state.to_json() for state in self.states],
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """One case in which an assertion does not hold: what is there and may not be, or is missing.

    ``labels``: the pair that it is about, or the one label (`none-...-both`).
    ``trails``: the path that may not be, or the two that may not both be (one,
    if the label itself belongs to the other group).  ``missing``: the flow
    that `exactly` lists is not there, for this reason.
    """

    labels: tuple[LabelName, ...]
    sentence: str
    trails: tuple[Trail, ...] = ()
    missing: Decision | None = None

    def to_json(self) -> dict[str, object]:
        """Shape of a violation in ``shype check --json``."""
        return {
            "labels": list(self.labels), "sentence": self.sentence,
            "paths": [trail.to_json() for trail in self.trails],
            "missing": None if self.missing is None else self.missing.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one assertion.

    ``count``: of the pairs of labels (or labels) that it is about, how many
    violate it; ``about``: how many there are; ``violations``: the first of
    them.  ``idle``: an `only-through` that holds because no path is there at
    all, not even by the labels that it names.
    """

    assertion: Assertion
    about: int
    count: int
    violations: tuple[Violation, ...] = ()
    idle: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is true of every path, in every reachable state."""
        return self.count == 0

    def finding(self) -> Finding | None:
        """The finding of `shype check`: an error if it is violated, a warning if it is idle."""
        said, kind = sentence(self.assertion), kind_of(self.assertion)
        span = self.assertion.terms.span
        if self.idle:
            return Finding(
                AssertId.IDLE, span, f"`{said}` holds because there is no path at all, not "
                f"even by {listed(self._by())}",
                "`never` says that; or permit the flow that is meant", Severity.WARNING,
            )
        if self.holds:
            return None
        more = f" (and {self.count - 1} more of {self.about})" if self.count > 1 else ""
        return Finding(
            AssertId.of(kind), span, f"`{said}` is violated: {self.violations[0].sentence}{more}",
            "take away what permits a step (see the places below), or correct the assertion"
            if self.violations[0].trails else
            "permit the flow (see the reason below), or take it off the list",
        )

    def _by(self) -> tuple[str, ...]:
        return tuple(getattr(self.assertion, "by", ()))

    def to_json(self) -> dict[str, object]:
        """Shape of a verdict in ``shype check --json``."""
        terms = self.assertion.terms
        return {
            "assertion": sentence(self.assertion), "kind": kind_of(self.assertion),
            "name": terms.name, "reason": terms.reason, "at": str(terms.span),
            "holds": self.holds, "idle": self.idle, "about": self.about, "violated": self.count,
            "violations": [violation.to_json() for violation in self.violations],
        }
