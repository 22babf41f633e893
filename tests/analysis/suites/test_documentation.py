"""The pages about policy tests: complete, and what they show is run."""

from __future__ import annotations

import re
from pathlib import Path

from shype.analysis.suites.running import run
from shype.analysis.suites.sentences import FORMS
from tests.analysis.suites.bad_suites import read
from tests.analysis.suites.page import PAGE, page
from tests.walkthrough import follow

DOCS = Path(__file__).resolve().parents[3] / "docs"
HEAD = "shype-test: 1\npolicy: hospital.yaml\ntests:\n  examples:\n"


def test_the_reference_page_is_the_parser_s_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.analysis.suites.page"


def test_the_examples_of_all_forms_are_true() -> None:
    tests, findings = read(HEAD + "".join(f"    - {form.example}\n" for form in FORMS))
    assert findings == []
    assert [outcome.got for outcome in run(tests) if not outcome.passed] == []


def test_the_file_on_the_page_passes() -> None:
    block = re.search(r"```yaml\n(.*?)```", page(), re.DOTALL)
    assert block is not None
    tests, findings = read(block[1])
    assert findings == []
    assert [outcome.got for outcome in run(tests) if not outcome.passed] == []
    assert len(tests) == 8


def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    assert follow(DOCS / "how-to/policy-ci.md", tmp_path, lab=False) >= 8
