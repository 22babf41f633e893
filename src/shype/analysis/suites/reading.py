"""From a test file to tests, or to everything that is wrong with it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path

from shype.analysis.suites import sentences
from shype.analysis.suites.answers import ONLY, Answers
from shype.analysis.suites.complaints import Complaints, keys_of
from shype.analysis.suites.ids import SuiteId, error
from shype.analysis.suites.model import Expected, Test
from shype.analysis.suites.policies import Policies, Subject
from shype.analysis.suites.questions import only_through
from shype.analysis.suites.sentences import NotUnderstood, Sentence
from shype.base.errors import BadInput
from shype.decision.wording import printable
from shype.policy import reading, yaml_source
from shype.policy.findings import Id, show
from shype.policy.grammar import as_date
from shype.policy.names import LabelName
from shype.policy.source import Finding, Span
from shype.policy.yaml_source import Mapping, Node, Scalar, Sequence

#: Keys of a test file: what each holds.
KEYS = {
    "shype-test": "the version of this format: 1",
    "policy": "the policy file, or bundle, that is tested; a path from this file's directory",
    "today": "the day on which is asked, YYYY-MM-DD; guards expire by it (without it: today)",
    "tests": "lists of questions with their answers, each list under a title",
    "matrices": "tables of answers for many pairs of labels, each table under a title",
}
#: Keys of a table.
MATRIX_KEYS = {
    "via": "a mechanism or an operation, as in `may A -> B via ...`; without it: any mechanism",
    "columns": "the B of each column",
    "rows": "under each A its answers, one for each column",
}
#: Tests that one file may have, patterns expanded.
TESTS_LIMIT = 100_000


class Reader:
    """Reads one test file after another; ``day``: today, for files that name no other.

    ``policies``: where policies are that have been read before.
    """

    def __init__(self, day: date, policies: Policies | None = None) -> None:
        self.complain = Complaints()
        self.policies = policies or Policies(self.complain.suggest)
        self._day = day

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong with the test files read so far, but not with their policies."""
        return self.complain.findings

    def read(self, path: Path) -> list[Test]:
        """The tests of ``path``. Those that cannot be understood are in `findings`."""
        file = printable(reading.shown(path))
        text = reading.read(path)
        if isinstance(text, Finding):
            self.findings.append(text)
            return []
        return self.read_text(text, file, path.parent)

    def read_text(self, text: str, file: str, directory: Path) -> list[Test]:
        """As `read`, of a ``text`` that names its policy from ``directory``."""
        source = yaml_source.parse(text, file)
        for finding in source.findings:
            if finding.id == Id.FILE_EMPTY:
                finding = error(SuiteId.EMPTY, finding.span, "the file has no tests in it",
                                "start with `shype-test: 1`, `policy:` and `tests:`")
            self.findings.append(finding)
        if source.root is None:
            return []
        return _File(self, file, directory, self._day).tests(source.root)


class _File:
    def __init__(self, reader: Reader, file: str, directory: Path, day: date) -> None:
        self._complain = reader.complain
        self._add = reader.complain.add
        self._answers = Answers(reader.complain)
        self._policies = reader.policies
        self._file = file
        self._directory = directory
        self._day = day
        self._subject: Subject | None = None
        self._left = TESTS_LIMIT

    def tests(self, root: Node) -> list[Test]:
        if not isinstance(root, Mapping):
            keys = keys_of(KEYS)
            self._complain.wrong_type(root, f"a test file is a mapping with the keys {keys}")
            return []
        version = root.get("shype-test")
        if isinstance(version, Scalar) and version.kind == "int" and version.text != "1":
            self._add(SuiteId.VERSION, version.span,
                      f"test files of version {show(version.text)} are unknown to this shype",
                      "write `shype-test: 1`, or use the shype that made the file")
            return []
        if version is not None and not (isinstance(version, Scalar) and version.kind == "int"):
            self._add(SuiteId.VERSION, version.span, "the version is not a number",
                      "write `shype-test: 1`")
        self._complain.unknown_keys(root, KEYS, ("shype-test", "policy"), "the test file")
        self._set_day(root.get("today"))
        self._set_policy(root.get("policy"))
        found: list[Test] = []
        for key, of in (("tests", self._cases), ("matrices", self._matrix)):
            node = root.get(key)
            if node is None:
                continue
            if not isinstance(node, Mapping) or not node.entries:
                self._complain.wrong_type(node, f"under `{key}:` stand titles, each with its tests")
                continue
            for title, value in node.entries:
                found += of(printable(title.text), value)
        if root.get("tests") is None and root.get("matrices") is None:
            self._add(SuiteId.EMPTY, root.span, "the file has no tests in it",
                      "add `tests:`, or delete the file")
        return found

    # -- the head -----------------------------------------------------------------------------

    def _set_day(self, node: Node | None) -> None:
        if node is None:
            return
        day = as_date(node.text) if isinstance(node, Scalar) else None
        if day is None:
            self._add(SuiteId.DATE, node.span, "`today` is no day", "write YYYY-MM-DD")
        else:
            self._day = day

    def _set_policy(self, node: Node | None) -> None:
        if node is None:
            return
        if not isinstance(node, Scalar) or node.kind == "null" or not node.text:
            self._complain.wrong_type(node, "write the path of one policy file")
            return
        path = Path(os.path.normpath(self._directory / node.text))
        try:
            self._subject = self._policies.read(path)
        except (OSError, ValueError, RuntimeError) as problem:  # loops of links, odd characters
            self._add(SuiteId.POLICY, node.span, f"the policy cannot be read: {problem}",
                      "correct the path; it starts at this file's directory")
            return
        if self._subject is None:
            shown = printable(reading.shown(path))
            self._add(SuiteId.POLICY, node.span,
                      f"the policy {shown} cannot be tested: it has errors",
                      f"see `shype check {shown}`, or correct the path, which starts at this "
                      "file's directory")

    # -- tests --------------------------------------------------------------------------------

    def _cases(self, title: str, node: Node) -> list[Test]:
        if not isinstance(node, Sequence) or not node.items:
            self._complain.wrong_type(node, "write a list of tests, each as `- QUESTION: ANSWER`")
            return []
        return [
            test
            for item in node.items for key, value in self._entries(item)
            for test in self._case(title, key, value)
        ]

    def _entries(self, item: Node) -> Iterator[tuple[Scalar, Node]]:
        if isinstance(item, Mapping) and item.entries:
            yield from item.entries
        elif isinstance(item, Scalar):
            self._add(SuiteId.QUESTION, item.span, f"{show(item.text)} has no answer",
                      "write `QUESTION: yes` or `QUESTION: no`, with a blank after the colon")
        else:
            self._complain.wrong_type(item, "write `QUESTION: ANSWER`")

    def _case(self, title: str, key: Scalar, value: Node) -> Iterator[Test]:
        expected = self._answers.expected(value)
        try:
            sentence = sentences.parse(key.text, self._complain.suggest)
        except NotUnderstood as problem:
            self._add(problem.id, key.span, problem.message, problem.fix)
            return
        yield from self._made(title, key, sentence, expected)

    def _made(
        self, title: str, key: Scalar, sentence: Sentence, expected: Expected | None
    ) -> Iterator[Test]:
        """A test for each combination of labels that the words of the sentence name."""
        if self._subject is None:
            return
        subject = self._subject
        found: list[tuple[LabelName, ...]] = []
        for word in sentence.words:
            labels = subject.labels.find(word, key.span)
            if isinstance(labels, Finding):
                self._complain.findings.append(labels)
            else:
                found.append(labels)
        if sentence.resource is not None:
            try:
                subject.resources.match(*sentence.resource)
            except BadInput as problem:
                self._add(SuiteId.RESOURCE, key.span, problem.message, problem.fix)
                return
        if len(found) < len(sentence.words) or expected is None:
            return
        if sentence.flows and expected.because:
            self._add(SuiteId.BECAUSE, key.span,
                      "a flow may have many steps, and none of its own decision",
                      "leave `because` out, or ask `may A -> B` of each step")
            return
        through = self._through(sentence, expected, subject, key.span)
        if through is None:
            return
        if through:
            expected = replace(expected, word=only_through(through))
        count = 1
        for labels in found:
            count *= len(labels)
        if count > self._left:
            self._add(SuiteId.TOO_MANY, key.span,
                      f"with the {count} tests that this stands for the file has more than "
                      f"{TESTS_LIMIT}", "use narrower patterns, or several files")
            return
        self._left -= count
        server = subject.server(self._day)
        for choice in product(*found):
            yield Test(
                self._file, title, key.span, printable(key.text),
                sentence.question((*choice, *through)), expected, subject.policy.source,
                server, self._day,
            )

    def _through(
        self, sentence: Sentence, expected: Expected, subject: Subject, span: Span
    ) -> tuple[LabelName, ...] | None:
        """The labels after ``only through``: none, if it is not said; None if they are wrong."""
        found = ONLY.fullmatch(expected.word)
        if found is None:
            return ()
        if not sentence.flows or "" in sentences.names(found[1]):
            self._add(SuiteId.ANSWER, span, f"{show(expected.word)} is no answer here",
                      "write yes or no, or ask `flows A -> B`: only through LABEL, LABEL")
            return None
        labels: list[LabelName] = []
        for word in sentences.names(found[1]):
            known = subject.labels.find(word, span)
            if isinstance(known, Finding):
                self._complain.findings.append(known)
                return None
            labels += known
        return tuple(labels)

    # -- tables -------------------------------------------------------------------------------

    def _matrix(self, title: str, node: Node) -> Iterator[Test]:
        if not isinstance(node, Mapping):
            self._complain.wrong_type(node, "a table has the keys " + keys_of(MATRIX_KEYS))
            return
        self._complain.unknown_keys(node, MATRIX_KEYS, ("columns", "rows"), "this table")
        rows, via = node.get("rows"), self._via(node.get("via"))
        columns = self._columns(node.get("columns"))
        if rows is not None and (not isinstance(rows, Mapping) or not rows.entries):
            self._complain.wrong_type(rows, "write a row for each A: `surgery: [yes, no]`")
        if columns is None or via is None or not isinstance(rows, Mapping):
            return
        for key, value in rows.entries:
            cells = value.items if isinstance(value, Sequence) else ()
            if len(cells) != len(columns):
                self._add(SuiteId.MATRIX, value.span,
                          f"the row {show(key.text)} has not one answer for each column: "
                          f"{len(cells)} for {len(columns)}", "write `[yes, no, ...]`")
            elif self._is_label(key):
                for column, cell in zip(columns, cells, strict=True):
                    yield from self._cell(title, key, column, via, cell)

    def _cell(
        self, title: str, row: Scalar, column: Scalar, via: str, cell: Node
    ) -> Iterator[Test]:
        expected = self._answers.expected(cell)
        sentence = sentences.arrow(row.text, column.text, via or None, self._complain.suggest)
        written = f"may {row.text} -> {column.text}" + (f" via {via}" if via else "")
        yield from self._made(title, Scalar(cell.span, written, "str"), sentence, expected)

    def _via(self, node: Node | None) -> str | None:
        """The mechanism or operation of a table, "" for any; None if it is wrong."""
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            self._complain.wrong_type(node, "write one mechanism or operation")
            return None
        try:
            sentences.arrow("", "", node.text, self._complain.suggest)
        except NotUnderstood as problem:
            self._add(problem.id, node.span, problem.message, problem.fix)
            return None
        return node.text

    def _columns(self, node: Node | None) -> list[Scalar] | None:
        """The labels of a table's columns; None if one is wrong."""
        if node is None:
            return None
        items = node.items if isinstance(node, Sequence) else ()
        words = [item for item in items if isinstance(item, Scalar)]
        if not words or len(words) < len(items):
            self._complain.wrong_type(
                node, "write a list of labels: `columns: [laboratory, statistics]`")
            return None
        known = [self._is_label(word) for word in words]
        return words if all(known) else None

    def _is_label(self, word: Scalar) -> bool:
        """Whether ``word`` names labels. What is wrong is said here, and not again at each cell."""
        if self._subject is None:
            return True
        found = self._subject.labels.find(word.text, word.span)
        if isinstance(found, Finding):
            self._complain.findings.append(found)
        return not isinstance(found, Finding)
