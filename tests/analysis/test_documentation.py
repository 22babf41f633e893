"""The pages about updates: complete, and their examples work."""

from __future__ import annotations

import json
import re
from pathlib import Path

from shype.analysis import state
from shype.analysis.ids import PlanId
from tests.analysis.test_plan import CASES
from tests.walkthrough import follow

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_exactly_the_ids_that_can_occur_are_documented() -> None:
    page = (DOCS / "reference/plan-findings.md").read_text()
    rows = re.findall(r"^\| `(plan\.[a-z0-9-]+)` \| ([a-z]+)", page, re.MULTILINE)
    assert [id for id, _ in rows] == [id.value for id in PlanId]
    weights = {(case.id, case.weight) for case in CASES if not case.conditional}
    assert weights <= {*rows}, "the page gives another weight"


def test_every_id_has_a_case() -> None:
    assert {case.id for case in CASES} == {*PlanId}


def test_the_example_of_a_state_can_be_read() -> None:
    page = (DOCS / "reference/plan-state.md").read_text()
    block = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert block is not None
    found = state.from_json(json.loads(block[1]))
    assert (len(found.domains), found.window_open) == (3, False)
    assert found.channels is not None
    assert [(c.a, c.b) for c in found.channels] == [(3, 4), (3, 4)]


def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    assert follow(DOCS / "how-to/update-a-policy.md", tmp_path, lab=False) == 6
