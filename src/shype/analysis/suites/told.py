"""Why an answer is what it is, in lines that every report shows."""

from __future__ import annotations

from collections.abc import Iterator

from shype.analysis.suites.model import Outcome
from shype.analysis.suites.questions import NO_ANSWER
from shype.decision.wording import printable

#: Decisions of one answer that are shown; `--json` has all.
_SHOWN = 4


def reasons(outcome: Outcome) -> Iterator[str]:
    """Each decision as a sentence with its id, and under it the places that it follows from."""
    decisions = list(dict.fromkeys(outcome.decisions))
    if outcome.answer.word == NO_ANSWER:
        yield "the VMs of `while` cannot run together themselves:"
    if outcome.answer.way:
        yield f"the way: {printable(' -> '.join(outcome.answer.way))}"
    for decision in decisions[:_SHOWN]:
        yield f"{printable(decision.sentence)} [{decision.id}]"
        for span in decision.rules:
            yield f"  at: {printable(str(span))}"
    if len(decisions) > _SHOWN:
        yield f"and {len(decisions) - _SHOWN} more (--json has all)"
