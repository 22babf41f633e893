"""One wrong test file for each finding that the text of a test file can cause."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from shype.analysis.suites.ids import SuiteId
from shype.analysis.suites.model import Test
from shype.analysis.suites.policies import Policies
from shype.analysis.suites.reading import Reader
from shype.policy.source import Finding
from shype.policy.suggest import Suggester

#: The directory that the test files below seem to stand in.
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TODAY = date(2030, 1, 1)

#: A valid test file; the cases below each spoil one thing in it.
GOOD = """\
shype-test: 1
policy: hospital.yaml
today: 2030-01-01
tests:
  wards and laboratory:
    - may surgery -> laboratory via grant: yes
    - may surgery -> trial-portal: {answer: no, because: [ste.disjoint]}
    - may * start: yes
    - may anonymiser use disk /dev/vg0/study-1 to write: yes
    - flows surgery -> trial-portal: only through anonymiser
matrices:
  research:
    via: grant.map_read
    columns:    [laboratory, statistics]
    rows:
      surgery:  [yes, no]
"""


@dataclass(frozen=True, slots=True)
class Bad:
    """The first ``old`` in `GOOD` becomes ``new``; then ``id`` is found at ``line``:``column``."""

    id: SuiteId
    line: int
    column: int
    old: str
    new: str
    fix: str = ""

    @property
    def text(self) -> str:
        """The whole test file."""
        assert self.old in GOOD, self.old
        return GOOD.replace(self.old, self.new, 1)


#: Policies of the examples are read once.
READ = Policies(Suggester())


def read(text: str) -> tuple[list[Test], list[Finding]]:
    """The tests of ``text`` and what is wrong with it and its policy."""
    good = re.search(r"policy: (hospital|banks)[.]yaml$", text, re.MULTILINE)
    reader = Reader(TODAY, READ if good else None)
    tests = reader.read_text(text, "t.test.yaml", EXAMPLES)
    return tests, [*reader.findings, *reader.policies.findings]


_SURGERY = "may surgery -> laboratory via grant: yes"
_USE = "may anonymiser use disk /dev/vg0/study-1 to write: yes"

CASES = (
    Bad(SuiteId.EMPTY, 1, 1, GOOD, "# nothing\n"),
    Bad(SuiteId.EMPTY, 1, 1, GOOD, "shype-test: 1\npolicy: hospital.yaml\n"),
    Bad(SuiteId.VERSION, 1, 13, "shype-test: 1", "shype-test: 2"),
    Bad(SuiteId.VERSION, 1, 13, "shype-test: 1", "shype-test: one"),
    Bad(SuiteId.KEY_UNKNOWN, 4, 1, "tests:", "test:", "did you mean `tests`?"),
    Bad(SuiteId.KEY_UNKNOWN, 13, 5, "via:", "by:"),
    Bad(SuiteId.KEY_UNKNOWN, 7, 49, "because:", "becuase:", "did you mean `because`?"),
    Bad(SuiteId.KEY_MISSING, 1, 1, "shype-test: 1\n", ""),
    Bad(SuiteId.KEY_MISSING, 1, 1, "policy: hospital.yaml\n", ""),
    Bad(SuiteId.KEY_MISSING, 7, 36, "answer: no, ", ""),
    Bad(SuiteId.KEY_MISSING, 13, 5, "    columns:    [laboratory, statistics]\n", ""),
    Bad(SuiteId.TYPE, 1, 1, GOOD, "- shype-test: 1\n"),
    Bad(SuiteId.TYPE, 2, 9, "hospital.yaml", "[hospital.yaml]"),
    Bad(SuiteId.TYPE, 4, 8, GOOD[GOOD.index("tests:"):], "tests: []\n"),
    Bad(SuiteId.TYPE, 5, 25, GOOD[GOOD.index("\n    - may s"):], " []\n"),
    Bad(SuiteId.TYPE, 6, 7, _SURGERY, f"[{_SURGERY}]"),
    Bad(SuiteId.TYPE, 12, 13, GOOD[GOOD.index("\n    via:"):], " [yes, no]\n"),
    Bad(SuiteId.TYPE, 14, 17, "[laboratory, statistics]", "laboratory"),
    Bad(SuiteId.TYPE, 14, 17, "[laboratory, statistics]", "[laboratory, [statistics]]"),
    Bad(SuiteId.TYPE, 13, 10, "grant.map_read", "[grant]"),
    Bad(SuiteId.TYPE, 15, 11, "\n      surgery:  [yes, no]", " [surgery]"),
    Bad(SuiteId.DATE, 3, 8, "2030-01-01", "2030-13-01"),
    Bad(SuiteId.DATE, 3, 8, "2030-01-01", "tomorrow"),
    Bad(SuiteId.POLICY, 2, 9, "hospital.yaml", "no-such.yaml"),
    Bad(SuiteId.POLICY, 2, 9, "hospital.yaml", "no-such.shype"),
    Bad(SuiteId.POLICY, 2, 9, "hospital.yaml", r'"a\0b"'),
    Bad(SuiteId.QUESTION, 6, 7, "may surgery ->", "must surgery ->"),
    Bad(SuiteId.QUESTION, 6, 7, f"{_SURGERY}", "may surgery -> laboratory"),
    Bad(SuiteId.QUESTION, 6, 7, _SURGERY, "may run surgery beside laboratory: yes",
        "who comes first: `may surgery run beside laboratory`"),
    Bad(SuiteId.QUESTION, 6, 7, "via grant", "by grant"),
    Bad(SuiteId.QUESTION, 6, 7, _SURGERY, "flows surgery -> laboratory via grant: yes"),
    Bad(SuiteId.QUESTION, 6, 7, _SURGERY, "surgery -> laboratory: yes"),
    Bad(SuiteId.QUESTION, 6, 7, _SURGERY, "may surgery start beside laboratory: yes"),
    Bad(SuiteId.QUESTION, 6, 9, _SURGERY, f"? may {'a' * 3000} start\n      : yes"),
    Bad(SuiteId.MEANS, 6, 7, "via grant", "via grnt", "did you mean `grant`?"),
    Bad(SuiteId.MEANS, 6, 7, "via grant", "via foreign"),
    Bad(SuiteId.MEANS, 13, 10, "grant.map_read", "grant.map"),
    Bad(SuiteId.LABEL_UNKNOWN, 6, 7, "may surgery", "may surgry", "did you mean `surgery`?"),
    Bad(SuiteId.LABEL_UNKNOWN, 6, 7, "may surgery", "may ward-1", "write vm:ward-1, or its label"),
    Bad(SuiteId.LABEL_UNKNOWN, 6, 7, "may surgery", "may vm:ward-9"),
    Bad(SuiteId.QUESTION, 6, 7, _SURGERY, "may surgery start while a, , b run: yes"),
    Bad(SuiteId.LABEL_UNKNOWN, 10, 7, "through anonymiser", "through anonymizer"),
    Bad(SuiteId.LABEL_UNKNOWN, 16, 7, "surgery:  [", "surgry:   [", "did you mean `surgery`?"),
    Bad(SuiteId.LABEL_UNKNOWN, 14, 30, ", statistics]", ", stats]", "write vm:stats"),
    Bad(SuiteId.PATTERN, 6, 7, "may surgery", "may surge-*"),
    Bad(SuiteId.PATTERN, 6, 7, "may surgery", "may clinic-*"),
    Bad(SuiteId.PATTERN, 6, 7, "may surgery", "may [^s]*"),
    Bad(SuiteId.RESOURCE, 9, 7, "use disk", "use dsik", "did you mean `disk`?"),
    Bad(SuiteId.RESOURCE, 9, 7, "/dev/vg0/study-1", "vg0/study-1"),
    Bad(SuiteId.RESOURCE, 9, 7, _USE, "may anonymiser use irq 1-x: yes"),
    Bad(SuiteId.ANSWER, 6, 44, "grant: yes", "grant: maybe"),
    Bad(SuiteId.ANSWER, 6, 43, "grant: yes", "grant:"),
    Bad(SuiteId.ANSWER, 6, 44, "grant: yes", "grant: 1"),
    Bad(SuiteId.ANSWER, 16, 23, "[yes, no]", "[yes, -]"),
    Bad(SuiteId.ANSWER, 6, 7, "grant: yes", "grant: only through anonymiser"),
    Bad(SuiteId.ANSWER, 10, 7, "through anonymiser", "through anonymiser, ,"),
    Bad(SuiteId.BECAUSE, 7, 59, "ste.disjoint", "ste.disjont", "did you mean `ste.disjoint`?"),
    Bad(SuiteId.BECAUSE, 7, 59, "ste.disjoint", "ste.shared"),
    Bad(SuiteId.BECAUSE, 7, 58, "[ste.disjoint]", "[]"),
    Bad(SuiteId.BECAUSE, 10, 7, "only through anonymiser", "{answer: yes, because: ste.shared}"),
    Bad(SuiteId.MATRIX, 16, 17, "[yes, no]", "[yes]"),
    Bad(SuiteId.MATRIX, 16, 17, "[yes, no]", "yes"),
    Bad(SuiteId.TOO_MANY, 6, 7, _SURGERY, "may * start while *, *, *, *, *, *, * run: yes"),
)
