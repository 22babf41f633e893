"""From the words of a question to labels of the policy: names, patterns, ``dom0``, ``vm:NAME``."""

from __future__ import annotations

from shype.analysis.suites.ids import SuiteId, error
from shype.base.errors import BadInput
from shype.decision.party import resolve
from shype.policy import globs
from shype.policy.findings import show
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId
from shype.policy.source import Finding, Span
from shype.policy.suggest import Suggester


class Labels:
    """The labels of one policy, found by word; every word is looked up once."""

    def __init__(self, policy: Policy, suggest: Suggester) -> None:
        self._policy = policy
        self._suggest = suggest
        self._guests = [label.name for label in policy.guests]
        self._known: dict[str, tuple[LabelName, ...]] = {
            name: (name,) for name in (*policy.labels, *policy.retired)
        }
        self._known.setdefault("dom0", (policy.host.dom0,))

    def find(self, word: str, span: Span) -> tuple[LabelName, ...] | Finding:
        """The labels that ``word`` names, at least one, or what is wrong with it.

        A pattern stands for every label that a VM can carry and that it
        matches, so not for dom0's and not for retired ones.
        """
        found = self._known.get(word)
        if found is not None:
            return found
        if not globs.literal(word):
            matched = self._pattern(word, span)
            if not isinstance(matched, Finding):
                self._known[word] = matched
            return matched
        if word.startswith(("vm:", "label:")):
            try:
                return (resolve(self._policy, word).label,)
            except BadInput as problem:
                return error(SuiteId.LABEL_UNKNOWN, span, problem.message, problem.fix)
        if VmId(word) in self._policy.assignments:
            return error(SuiteId.LABEL_UNKNOWN, span, f"{show(word)} is a VM, not a label",
                         f"write vm:{word}, or its label")
        return error(
            SuiteId.LABEL_UNKNOWN, span, f"the policy has no label {show(word)}",
            self._suggest.fix(word, self._known, f"see `labels:` in {self._policy.source}"),
        )

    def _pattern(self, word: str, span: Span) -> tuple[LabelName, ...] | Finding:
        try:
            globs.check(word)
        except ValueError as problem:
            return error(SuiteId.PATTERN, span, f"{show(word)} is no pattern: {problem}",
                         "`*` stands for any characters, `?` for one, `[ab]` for a or b")
        matched = tuple(name for name in self._guests if globs.matches(word, name))
        if matched:
            return matched
        return error(
            SuiteId.PATTERN, span, f"no label of the policy matches {show(word)}",
            "a test of nothing would always pass: correct the pattern or delete the test "
            "(dom0's label and retired ones are only found by name)",
        )
