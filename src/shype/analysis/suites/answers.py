"""The answers of a test file: yes, no, ``only through``, and the decision that is behind them."""

from __future__ import annotations

import re

from shype.analysis.suites.complaints import Complaints
from shype.analysis.suites.ids import SuiteId
from shype.analysis.suites.model import Expected
from shype.analysis.suites.questions import NO, YES
from shype.decision.ids import PERMISSIONS, DecisionId
from shype.policy.findings import show
from shype.policy.yaml_source import Mapping, Node, Scalar, Sequence, describe

#: Keys of an answer that says more than yes or no.
ANSWER_KEYS = {
    "answer": "yes or no; of `flows` also `only through LABEL`",
    "because": "the id of the decision, or a list of ids of which one must be given",
}
#: The answer that has labels in it.
ONLY = re.compile(r"only\s+through\s+(\S.*)", re.DOTALL)


class Answers:
    """Reads answers."""

    def __init__(self, complain: Complaints) -> None:
        self._suggest = complain.suggest
        self._add = complain.add
        self._unknown_keys = complain.unknown_keys

    def expected(self, node: Node) -> Expected | None:
        """The answer that ``node`` says, or None: it says none."""
        if not isinstance(node, Mapping):
            word = self._word(node)
            return None if word is None else Expected(word)
        self._unknown_keys(node, ANSWER_KEYS, ("answer",), "this answer")
        answer = node.get("answer")
        word = None if answer is None else self._word(answer)
        because = node.get("because")
        if because is None or word is None:
            return None if word is None else Expected(word)
        ids = self._ids(because, word != NO)
        return None if ids is None else Expected(word, ids)

    def _word(self, node: Node) -> str | None:
        word = node.text.strip() if isinstance(node, Scalar) else ""
        if word.lower() in ("yes", "true", "on"):
            return YES
        if word.lower() in ("no", "false", "off"):
            return NO
        if ONLY.fullmatch(word):
            return word
        shown = show(word) if word else describe(node)
        self._add(SuiteId.ANSWER, node.span, f"{shown} is no answer",
                  "write yes or no, or {answer: no, because: ste.disjoint}; of `flows` also "
                  "`only through LABEL`")
        return None

    def _ids(self, node: Node, yes: bool) -> tuple[DecisionId, ...] | None:
        items = node.items if isinstance(node, Sequence) else (node,)
        known = {str(id): id for id in DecisionId}
        found: list[DecisionId] = []
        for item in items:
            word = item.text if isinstance(item, Scalar) else ""
            if word not in known:
                self._add(SuiteId.BECAUSE, item.span,
                          f"{show(word) if word else describe(item)} is not the id of a decision",
                          self._suggest.fix(word, known, "see docs/reference/decisions.md"))
            elif (known[word] in PERMISSIONS) is not yes:
                said = "a permission" if known[word] in PERMISSIONS else "a denial"
                self._add(SuiteId.BECAUSE, item.span,
                          f"{show(word)} is {said}, and the answer is {'yes' if yes else 'no'}",
                          "correct one of the two")
            else:
                found.append(known[word])
        if not items:
            self._add(SuiteId.BECAUSE, node.span, "no id of a decision",
                      "name one, or leave it out")
        return tuple(found) if found and len(found) == len(items) else None
