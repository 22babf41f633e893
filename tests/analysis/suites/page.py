"""Makes docs/reference/policy-tests.md: `python -m tests.analysis.suites.page`.

The tables of forms and keys are the reader's own; what is said of each finding
follows from running the first case of its id in bad_suites.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shype.analysis.suites.answers import ANSWER_KEYS
from shype.analysis.suites.ids import SuiteId
from shype.analysis.suites.reading import KEYS, MATRIX_KEYS
from shype.analysis.suites.rules import RuleKind
from shype.analysis.suites.sentences import FORMS, MECHANISMS, OPERATIONS
from tests.analysis.suites.bad_suites import CASES, EXAMPLES, read

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/policy-tests.md"

_HEAD = """\
# Policy tests

`shype test DIR` asks a policy the questions of test files and compares its answers with those
expected. [How to run it in a CI](../how-to/policy-ci.md).

```
shype test examples/tests
shype test examples/tests/hospital.test.yaml -k anonymiser
shype test examples --coverage --min-coverage 80 --junit report.xml
shype test examples --tap
```

Test files are named `*.test.yaml` (or `.test.yml`) and found anywhere below DIR, but for hidden
directories; a path of one file works too, whatever its name. Exit codes: 0 all as expected; 1 a
test failed, or coverage is below `--min-coverage`; 2 a test file or its policy has errors, or
there is no test at all: nothing to run never passes, and neither does a filter or a pattern that
finds nothing.

A test file is YAML, read like a policy: without tags, with each key once.

```yaml
shype-test: 1
policy: hospital.yaml                 # from this file's directory
today: 2026-11-25                     # optional
tests:
  research learns no names:           # a title for each list
    - may surgery -> trial-portal: no
    - flows surgery -> trial-portal: only through anonymiser
    - may laboratory -> trial-portal: {answer: no, because: ste.disjoint}
    - may trial-portal use disk /dev/vg0/patients-2026: no
matrices:
  who reads whom:
    via: grant
    columns:         [laboratory, statistics]
    rows:
      surgery:       [yes, no]        # surgery -> laboratory: yes, surgery -> statistics: no
      trial-portal:  [no, yes]
```

"""
_DIRECTION = f"""\
## Which way

The arrow is the way that information goes, unless an operation is named.

* `may A -> B` and `may A -> B via MECHANISM`: may information of A arrive at B? Who acts does not
  matter: B may read what A grants, or A may write to what B grants. A wall counts, for event
  channel, grant and Argo: VMs that never run at the same time exchange nothing by these. Disks
  keep what was written and networks leave the host, so for them the wall is no obstacle.
* `may A -> B via OPERATION`: A is who acts (the subject) and B on whom (the object), as in
  `shype decide` and in [decisions](decisions.md). `via grant.map_read` is A mapping a page of B to
  read it, so information goes from B to A. No wall counts: it is one decision of the security
  server.
* `flows A -> B`: the same way as the first, in any number of steps.

Mechanisms: {", ".join(f"`{name}`" for name in MECHANISMS)}. Operations: \
{", ".join(f"`{name}`" for name in OPERATIONS)}.

## Names and patterns

A and B are labels of the policy. `dom0` is dom0's label, `vm:NAME` the label that the policy gives
to a VM. A resource is named as in the policy, and never by a pattern: `disk /dev/vg0/study-1`,
`pci 0000:03:00.0`. Double quotes around the name do no harm, and one that has ` to ` in it needs
them.

`*`, `?` and `[ab]` in a label make a pattern: the test is made for every label that matches, in
every place with every other, and each is a test of its own that is counted and reported. `may
bank-a-* -> bank-b-*` asks about each pair; `may * -> *` also about each label and itself, which
means two VMs with that label. A pattern matches labels that VMs carry, so neither dom0's nor
retired ones. One that matches nothing is an error.

To YAML a question is a key: quotes around all of it do no harm, and one with `: ` or ` #` in it
needs them. Colons that no blank follows, as in a PCI address, need none.

## Answers

"""
_ANSWERS = """\

`yes` and `no` may be written as YAML does (`true`, `off`). `because` is tested against the ids of
all [decisions](decisions.md) that make the answer: a `no` by any mechanism rests on several, and
one of them must have the id. With a list, any id of it will do.

## Keys

"""
_COVERAGE = """\

## Coverage

A rule of the policy is covered if a test that passed depended on it: if it is among the places
that a decision names as its reasons, or, for a part of a rule, if the decision turned on that part.
Naming a label in a question covers nothing. `--coverage` lists what determined no answer, with
its line; `--json` has, for each rule, how many tests it determined to permit and to deny.

| rule | is covered by |
|---|---|
"""
_COVERED_BY = {
    RuleKind.COALITION: "a decision that names it",
    RuleKind.OPENING: "a permission by that mechanism through the coalition; only where it does "
    "not open all of them",
    RuleKind.WRITE_UP: "a permission that needed it: to a higher level, blindly",
    RuleKind.WALL: "a conflict of it; a start that it does not forbid covers no wall",
    RuleKind.WALL_MEMBER: "a conflict between who holds it and another",
    RuleKind.LABEL: "a decision that names it",
    RuleKind.MEMBERSHIP: "a permission through that coalition; dom0's are one rule, its label",
    RuleKind.SWITCHED_OFF: "a refusal for that reason",
    RuleKind.GUARD: "a decision about its way: it passes, the wrong direction, expired",
    RuleKind.LEVELS: "a decision in which levels counted",
    RuleKind.LEVEL: "such a decision about somebody or something that has it",
    RuleKind.CATEGORY: "such a decision about somebody or something that has it",
    RuleKind.RESOURCE: "a decision on a resource that the entry names",
    RuleKind.RESOURCE_LABEL: "a decision on a resource that carries it",
    RuleKind.RETIRED: "a decision that names it",
}
_REPORTS = """\

Where several mechanisms permit `may A -> B`, none of them determined the answer, and what they
have in common counts. `flows` covers nothing: it shows one way, and there may be others. A test
that fails covers nothing.

## Reports

* On standard output a count for each file, failing tests in full, the coverage. `--list` shows
  the tests without asking, `-k TEXT` takes those with TEXT in file, title or question.
* `--tap`: [TAP version 14](https://testanything.org/tap-version-14-specification.html); a failing
  test has a YAML block with `message`, `file`, `line`, `expected`, `got`, `because`. Tests that
  cannot be run are `Bail out!`. Perl's `prove` knows versions up to 13, which has the same
  lines: `shype test DIR --tap | sed '1s/14/13/' > tests.tap; prove -e cat tests.tap`.
* `--junit FILE`: `testsuites`, a `testsuite` for each file, a `testcase` for each test with
  `time`, `file` and `line`; `failure` has the decision and the lines of the policy. If test files
  have errors, each finding is a `testcase` with an `error`.
* `--json`: `ok`, `passed`, `failed`, `tests` (each with its decisions), `coverage`.

Control characters in titles and names are shown as `\\x1b` in all of them.

## What can be wrong with a test file

Everything is reported at once, with `file:line:column`, id and fix, and nothing is asked then.
Findings of YAML and of files are those [of policies](findings.md); a policy with errors has its
own beside `test.policy`. Expired guards are no error here: the policy is asked as of `today` of
the test file, else `--date`, else the present day, and refuses what a guard would have passed.

| id | for example |
|---|---|
"""


def _table(keys: Mapping[str, str]) -> str:
    return "".join(f"| `{key}` | {what} |\n" for key, what in keys.items())


def _said(id: SuiteId) -> str:
    """What is said of the first case of ``id``: really run, so that the page cannot lie."""
    bad = next(bad for bad in CASES if bad.id == id)
    found = next(finding for finding in read(bad.text)[1] if finding.id == id)
    where = f"{EXAMPLES}/"
    return f"{found.message}; fix: {found.fix}".replace(where, "").replace("|", "\\|").replace(
        "../", "").replace("<", "&lt;")


def page() -> str:
    """The whole page."""
    forms = "".join(
        f"| `{form.usage.replace('|', chr(92) + '|')}` | {form.meaning} | `{form.example}` |\n"
        for form in FORMS
    )
    keys = "".join(
        f"{before}\n\n| key | |\n|---|---|\n{_table(table)}\n" for before, table in (
            ("Of a test file; `shype-test`, `policy`, and tests or matrices are required:", KEYS),
            ("Of a table under `matrices`; `columns` and `rows` are required:", MATRIX_KEYS),
        )
    )
    return (
        f"{_HEAD}Made by `python -m tests.analysis.suites.page`.\n\n## Questions\n\n"
        f"| question | what it asks | example |\n|---|---|---|\n{forms}\n"
        f"{_DIRECTION}| key | |\n|---|---|\n{_table(ANSWER_KEYS)}{_ANSWERS}{keys.rstrip()}\n"
        f"{_COVERAGE}" + "".join(f"| {kind} | {_COVERED_BY[kind]} |\n" for kind in RuleKind)
        + _REPORTS + "".join(f"| `{id}` | {_said(id)} |\n" for id in SuiteId)
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
