"""Coverage: what a test determined, part by part, and nothing else."""

from __future__ import annotations

import pytest

from shype.analysis.suites.coverage import Coverage, coverage
from shype.analysis.suites.running import run
from shype.policy.loader import check_text
from tests.analysis.suites.bad_suites import TODAY
from tests.analysis.suites.given import made_from

POLICY = """\
shype: 1
policy: {name: p, version: "1.0"}
levels: {order: [low, mid, high], categories: [x]}
coalitions:
  work: {}
  few: {mechanisms: [event, disk]}
  up: {mechanisms: [argo, network], write-up: true}
  out: {}
walls: {w: [red, blue, green]}
labels:
  host: {coalitions: all}
  a: {coalitions: [work], level: low, wall: [red]}
  b: {coalitions: [work, few], level: low, wall: [blue], mechanisms: [event, grant, disk]}
  c: {coalitions: [work, up], level: "high {x}"}
  d: {coalitions: [few, up], level: low}
  e: {coalitions: [out], level: mid}
guards:
  g: {from: work, to: out, level: [low, mid], reason: "tests"}
resource-labels:
  shelf: {coalitions: [up], level: "high {x}"}
  drawer: {coalitions: [few], level: low}
resources:
  - {disk: "/dev/s*", label: shelf}
  - {disk: /dev/d, label: drawer}
host: {dom0: host}
"""


def covered(*cases: str) -> tuple[set[str], Coverage]:
    """The rules that ``cases`` cover, which all pass."""
    policy, findings = check_text(POLICY, "p.yaml", TODAY)
    assert policy is not None, findings
    lines = "".join(f"    - {case}\n" for case in cases)
    head = "shype-test: 1\npolicy: p.yaml\ntests:\n  t:\n"
    outcomes = list(run(made_from(head + lines, policy, TODAY)))
    assert [o.got for o in outcomes if not o.passed] == []
    found = coverage(outcomes)
    return {str(each.rule) for each in found.rules if each.covered}, found


_LEVELS = {"levels", "levels: low"}


@pytest.mark.parametrize(("case", "rules"), [
    ("may a -> e: {answer: no, because: ste.disjoint}", {"label a", "label e"}),
    ("may b -> d via event: yes",
     {"label b", "label d", "label b is in few", "label d is in few", "coalition few",
      "coalition few opens event", *_LEVELS}),
    ("may b -> d via event.send: yes",
     {"label b", "label d", "label b is in few", "label d is in few", "coalition few",
      "coalition few opens event", *_LEVELS}),
    # By event or by disk: neither opening determined it.
    ("may b -> d: yes",
     {"label b", "label d", "label b is in few", "label d is in few", "coalition few", *_LEVELS}),
    ("may b -> d via grant: {answer: no, because: mechanism.closed}",
     {"label b", "label d", "coalition few"}),
    ("may a -> a via grant: yes",
     {"label a", "label a is in work", "coalition work", *_LEVELS}),
    ("may b -> b via argo: {answer: no, because: mechanism.off}",
     {"label b", "label b switches argo off"}),
    ("may d -> c via argo: yes",
     {"label d", "label c", "coalition up", "coalition up opens argo",
      "coalition up lets write up", "label d is in up", "label c is in up", *_LEVELS,
      "levels: high", "levels: category x"}),
    # Between equals nothing is blind.
    ("may c -> c via network: yes",
     {"label c", "coalition up", "coalition work", "coalition up opens network",
      "label c is in up", "label c is in work", "levels", "levels: high", "levels: category x"}),
    ("may b run beside a: {answer: no, because: wall.conflict}",
     {"wall w", "wall w has red", "wall w has blue", "label a", "label b"}),
    ("may a start: yes", {"label a"}),
    ("may a run beside e: yes", {"label a", "label e"}),
    ("may a -> g via grant: {answer: yes, because: guard.passes}",
     {"guard g", "label a", "coalition work", "coalition out", "label a is in work"}),
    ("may e -> g via grant: {answer: no, because: guard.direction}", {"guard g", "label e"}),
    # The guard is one of the two here, and decides nothing.
    ("may d -> g: {answer: no, because: ste.disjoint}", {"label d"}),
    ("may d use disk /dev/d: yes",
     {"label d", "label d is in few", "coalition few", "disk /dev/d", "resource label drawer",
      *_LEVELS}),
    ("may d use disk /dev/s1 to write: yes",
     {"label d", "label d is in up", "coalition up", "coalition up lets write up",
      "disk /dev/s*", "resource label shelf", *_LEVELS, "levels: high", "levels: category x"}),
    ("may d use disk /dev/other: no", {"label d"}),
    ("may host -> e via control.domain: yes", {"label host", "label e", "label e is in out"}),
    # A way may have others beside it: it determines nothing.
    ("flows a -> e: only through g", set()),
])
def test_what_a_test_covers(case: str, rules: set[str]) -> None:
    found, _ = covered(case)
    shown = {rule.removeprefix("resource ") if rule.startswith("resource disk") else rule
             for rule in found}
    assert shown == rules


def test_a_test_that_fails_covers_nothing() -> None:
    policy, _ = check_text(POLICY, "p.yaml", TODAY)
    assert policy is not None
    text = "shype-test: 1\npolicy: p\ntests:\n  t:\n    - may a -> e: yes\n"
    found = coverage(run(made_from(text, policy, TODAY)))
    assert {str(rule) for rule in found.missed} == {str(each.rule) for each in found.rules}
    assert found.percent == 0


def test_permissions_and_denials_are_counted_apart() -> None:
    _, found = covered("may a -> e: no", "may a -> a via grant: yes", "may a -> d: no")
    (label,) = [each for each in found.rules if str(each.rule) == "label a"]
    assert (label.permit, label.deny) == (1, 2)
    assert label.rule.span.line == 12
