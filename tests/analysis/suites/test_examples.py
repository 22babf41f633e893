"""The tests of the examples: they pass, and fail when a rule is changed that matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from shype.analysis.suites.coverage import coverage
from shype.analysis.suites.questions import Flows
from shype.analysis.suites.running import collect, run
from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.policy import loader
from shype.policy.model import Policy
from tests.analysis.suites.mutants import mutants

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
FILES = sorted((ROOT / "examples/tests").glob("*.test.yaml"))
TODAY = date(2030, 1, 1)
#: A day on which every guard of the examples has expired.
LATER = date(2100, 1, 1)
#: Rules that no question can depend on: sHype's policy of 2005 labels resources without naming
#: any, and a coalition of its own for these and for dom0; no coalition elsewhere opens XenStore.
UNUSED = {
    "coalition ste-management", "label anonymiser switches xenstore off",
    "label statistics switches xenstore off", "resource label res-disk-hda",
    "resource label res-partition-hda1", "resource label res-partition-hda2",
    "resource label res-ethernetcard",
}


def test_all_pass_and_cover_every_rule() -> None:
    outcomes = list(run(collect([ROOT / "examples"], TODAY)))
    assert [outcome.test.name for outcome in outcomes if not outcome.passed] == []
    assert {Path(outcome.test.policy).name for outcome in outcomes} == {p.name for p in EXAMPLES}
    assert {str(rule) for rule in coverage(outcomes).missed} == UNUSED


def _answers(policy: Policy) -> Iterator[bool]:
    """Every yes and no that it gives: to all pairs, launches and entries, early and late."""
    entries = {(r.kind, r.pattern.replace("*", "7")) for r in policy.resources}
    for day in (TODAY, LATER):
        server = SecurityServer(policy, today=day)
        for a in policy.labels:
            yield server.launch(a, ()).permitted
            for b in policy.labels:
                yield server.together(a, b).permitted
                for operation in Operation:
                    yield server.permits(a, b, operation)
            for kind, name in sorted(entries):
                for access in Access:
                    yield server.use(a, kind, name, access).permitted


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_they_notice_every_change_that_changes_an_answer(example: Path) -> None:
    policy = loader.load(example, date.min).policy
    files = [file for file in FILES if f"policy: ../{example.name}\n" in file.read_text()]
    tests = sorted(
        (test for test in collect(files, TODAY)),
        key=lambda test: isinstance(test.question, Flows),  # these take longest
    )
    days = {test.today for test in tests}
    before = list(_answers(policy))
    noticed, survived = 0, []
    for what, mutant in mutants(policy):
        servers = {day: SecurityServer(mutant, today=day) for day in days}
        asked = (replace(test, server=servers[test.today]) for test in tests)
        if not all(outcome.passed for outcome in run(asked)):
            noticed += 1
        elif "forgotten" in what or list(_answers(mutant)) != before:
            survived.append(what)
    assert survived == []
    assert noticed >= 10


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(BadInput) as caught:
        collect([ROOT / "examples/no-such"], TODAY)
    assert caught.value.id == "test.path"
