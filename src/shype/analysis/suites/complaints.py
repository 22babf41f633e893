"""What is wrong with a test file, put into findings as it is read."""

from __future__ import annotations

from collections.abc import Mapping as Table

from shype.analysis.suites.ids import SuiteId, error
from shype.policy.findings import show
from shype.policy.source import Finding, Span
from shype.policy.suggest import Suggester
from shype.policy.yaml_source import Mapping, Node, Sequence, describe


class Complaints:
    """Collects ``findings``; all test files that are read together share one."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.suggest = Suggester()

    def add(self, id: SuiteId, span: Span, message: str, fix: str) -> None:
        """One more."""
        self.findings.append(error(id, span, message, fix))

    def wrong_type(self, node: Node, fix: str) -> None:
        """A value that is not what stands in this place, or is empty."""
        what = describe(node)
        if isinstance(node, Sequence) and not node.items:
            what = "an empty list"
        elif isinstance(node, Mapping) and not node.entries:
            what = "an empty mapping"
        self.add(SuiteId.TYPE, node.span, f"here stands {what}", fix)

    def unknown_keys(
        self, node: Mapping, keys: Table[str, str], needed: tuple[str, ...], where: str
    ) -> None:
        """Keys that are not among ``keys``, and those of ``needed`` that are not there."""
        for key, _ in node.entries:
            if key.text not in keys:
                near = self.suggest.nearest(key.text, [*keys])
                self.add(SuiteId.KEY_UNKNOWN, key.span,
                         f"the key {show(key.text)} is unknown in {where}",
                         f"did you mean `{near}`?" if near else f"known here: {keys_of(keys)}")
        for name in needed:
            if node.get(name) is None:
                self.add(SuiteId.KEY_MISSING, node.span, f"`{name}:` is missing in {where}",
                         f"add it: {keys[name]}")


def keys_of(keys: Table[str, str]) -> str:
    """The keys in a sentence."""
    return ", ".join(f"`{key}`" for key in keys)
