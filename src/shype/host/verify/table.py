"""One answer of each side to each question, and where two sides differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any

from shype.decision.operation import Operation
from shype.policy.names import LabelName


class Side(StrEnum):
    """Who answers: the policy as written, what it was compiled to, what the hypervisor has
    loaded, and what guests were able to do."""

    SOURCE = "source"
    BINARY = "binary"
    LOADED = "loaded"
    GUESTS = "guests"


class Answer(StrEnum):
    """``error``: asked, and neither permitted nor refused for certain; it agrees with nothing.

    The rest were not asked: ``not together`` because a wall keeps the two from running at
    once, ``not possible`` because these guests cannot make the attempt, ``not tried``
    because nobody did.
    """

    PERMIT = "permit"
    DENY = "deny"
    ERROR = "error"
    NOT_TRIED = "not tried"
    NOT_POSSIBLE = "not possible"
    NOT_TOGETHER = "not together"

    @property
    def asked(self) -> bool:
        """Whether it is an answer at all."""
        return self in (Answer.PERMIT, Answer.DENY, Answer.ERROR)


def answer(permitted: bool | None) -> Answer:
    """PERMIT or DENY; of None, ERROR."""
    if permitted is None:
        return Answer.ERROR
    return Answer.PERMIT if permitted else Answer.DENY


#: All pairs of sides, in the order in which they are shown.
PAIRS: tuple[tuple[Side, Side], ...] = tuple(combinations(Side, 2))
#: What a hypervisor decides between two VMs; disks and networks are not its own.
OPERATIONS = (
    Operation.EVENT_SEND, Operation.MAP_READ, Operation.MAP_WRITE, Operation.COPY_FROM,
    Operation.COPY_TO, Operation.ARGO_SEND, Operation.FOREIGN_MAP, Operation.CONTROL,
)
#: A question: may a VM with the first label do this to one with the second?
Question = tuple[LabelName, LabelName, Operation]


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its answers; ``rules`` are the lines that the source's follows from."""

    question: Question
    answers: Mapping[Side, Answer]
    rules: tuple[str, ...] = ()

    def of(self, side: Side) -> Answer:
        """What ``side`` says."""
        return self.answers.get(side, Answer.NOT_TRIED)

    def differs(self, a: Side, b: Side) -> bool:
        """Whether both were asked and do not say the same."""
        one, other = self.of(a), self.of(b)
        if not one.asked or not other.asked:
            return False
        return one is not other or one is Answer.ERROR

    @property
    def different(self) -> bool:
        """Whether any two sides differ."""
        return any(self.differs(a, b) for a, b in PAIRS)

    def also(self, side: Side, said: Answer) -> Row:
        """The same with one more answer."""
        return replace(self, answers={**self.answers, side: said})

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        subject, object, operation = self.question
        return {
            "subject": subject, "object": object, "operation": operation.value,
            "answers": {side.value: self.of(side).value for side in Side},
            "rules": list(self.rules), "different": self.different,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Row:
        """The inverse. Raises KeyError, ValueError or TypeError for anything else."""
        question = (LabelName(str(value["subject"])), LabelName(str(value["object"])),
                    Operation(value["operation"]))
        answers = {Side(side): Answer(said) for side, said in value["answers"].items()}
        return Row(question, answers, tuple(map(str, value["rules"])))


@dataclass(frozen=True, slots=True)
class Difference:
    """Two sides differ in something finer than an operation between two VMs.

    ``what`` is a class and permission, a context or a boolean; ``said`` what each says.
    """

    subject: str
    target: str
    what: str
    said: Mapping[Side, str]
    rules: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {
            "subject": self.subject, "target": self.target, "what": self.what,
            "answers": {side.value: text for side, text in self.said.items()},
            "rules": list(self.rules),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Difference:
        """The inverse. Raises KeyError, ValueError or TypeError for anything else."""
        said = {Side(side): str(text) for side, text in value["answers"].items()}
        return Difference(str(value["subject"]), str(value["target"]), str(value["what"]), said,
                          tuple(map(str, value["rules"])))


@dataclass(frozen=True, slots=True)
class Count:
    """How two sides compare: questions that both answered, differences, questions left open."""

    one: Side
    other: Side
    asked: int
    different: int
    open: int

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"between": [self.one.value, self.other.value], "asked": self.asked,
                "different": self.different, "not_asked": self.open}


def counts(
    rows: Sequence[Row], differences: Iterable[Difference],
    finer: Mapping[tuple[Side, Side], int],
) -> tuple[Count, ...]:
    """One count for each of `PAIRS`; ``finer`` are the questions behind ``differences``."""
    found = []
    extra = dict.fromkeys(PAIRS, 0)
    for difference in differences:
        for pair in PAIRS:
            extra[pair] += all(side in difference.said for side in pair)
    for a, b in PAIRS:
        both = sum(row.of(a).asked and row.of(b).asked for row in rows)
        found.append(Count(
            a, b, both + finer.get((a, b), 0),
            sum(row.differs(a, b) for row in rows) + extra[a, b], len(rows) - both,
        ))
    return tuple(found)
