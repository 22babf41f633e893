"""Every finding: where it points, what it says, and that the reference documents it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import shype.policy
from shype.policy.findings import Id
from shype.policy.loader import FINDINGS_LIMIT, check, check_text
from shype.policy.reading import decode
from shype.policy.source import Finding, Severity
from tests.policy import findings_page
from tests.policy.bad_policies import CASES
from tests.policy.bad_policy import Bad
from tests.policy.good_policies import GOOD, RICH, TODAY

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures/policies"

#: Findings about the file itself; test_reading.py makes one of each.
ABOUT_FILES = {
    Id.FILE_MISSING, Id.FILE_DIRECTORY, Id.FILE_BUNDLE, Id.FILE_NOT_REGULAR, Id.FILE_UNREADABLE,
    Id.FILE_TOO_LARGE, Id.FILE_ENCODING, Id.FILE_BOM,
}


def _check(text: str) -> tuple[bool, tuple[Finding, ...]]:
    decoded = decode(text.encode(), "p.yaml")
    if isinstance(decoded, Finding):
        return False, (decoded,)
    policy, findings = check_text(decoded, "p.yaml", TODAY)
    return policy is not None, findings


@pytest.mark.parametrize("base", [GOOD, RICH])
def test_the_bases_of_the_table_are_valid_and_without_warnings(base: str) -> None:
    assert _check(base) == (True, ())


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.id}-{bad.line}-{bad.column}")
def test_a_spoiled_policy_gives_its_finding_at_its_place(bad: Bad) -> None:
    valid, findings = _check(bad.text)
    assert valid is bad.warning
    found = [f for f in findings if f.id == bad.id]
    places = [(f.span.line, f.span.column) for f in found]
    assert (bad.line, bad.column) in places, [str(f) for f in findings]
    finding = found[places.index((bad.line, bad.column))]
    assert bad.says in finding.message
    assert bad.fix in finding.fix
    assert finding.severity is (Severity.WARNING if bad.warning else Severity.ERROR)
    assert finding.span.file == "p.yaml"
    assert not finding.message.endswith(".")
    assert "\n" not in finding.message + finding.fix


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.id}-{bad.line}-{bad.column}")
def test_one_mistake_is_one_finding(bad: Bad) -> None:
    _, findings = _check(bad.text)
    ids = [f.id for f in findings]
    assert (sorted(set(ids)) if bad.warning else ids) == [bad.id]


def test_every_id_has_a_case() -> None:
    elsewhere = {*ABOUT_FILES, Id.POLICY_TRUNCATED, Id.RESOURCE_UNMATCHED}
    assert {bad.id for bad in CASES} | elsewhere == set(Id)


def test_all_findings_of_a_file_are_reported_at_once() -> None:
    policy, findings = check(FIXTURES / "many-errors.yaml")
    assert policy is None
    assert [(f.span.line, f.span.column, f.id) for f in findings] == [
        (3, 16, "name.pattern"),
        (3, 38, "type.quote"),
        (4, 25, "list.duplicate"),
        (7, 11, "wall.too-small"),
        (9, 34, "host.dom0-wall"),
        (10, 24, "coalition.undeclared"),
        (10, 43, "wall.self-conflict"),
        (11, 10, "key.unknown"),
        (12, 3, "yaml.key-type"),
        (12, 20, "set.empty"),
        (13, 30, "host.driver-undeclared"),
        (14, 10, "vm.dom0-label"),
        (14, 19, "vm.undeclared-label"),
    ]


@pytest.mark.parametrize(("section", "misspelled"), [
    ("levels", "level"), ("levels", "lvels"), ("integrity", "integrty"),
])
def test_a_misspelled_section_of_levels_is_one_mistake(section: str, misspelled: str) -> None:
    valid, findings = _check(RICH.replace(f"\n{section}: ", f"\n{misspelled}: "))
    assert not valid
    assert [f.id for f in findings] == [Id.KEY_UNKNOWN]
    assert f"did you mean `{section}`?" in findings[0].fix


def test_a_section_of_levels_that_is_missing_is_told_once() -> None:
    text = re.sub(r"\nlevels: .*", "", RICH)
    findings = _check(text)[1]
    assert [f.id for f in findings] == [Id.LEVEL_WITHOUT_SECTION]
    assert "`nic` has `level`, and so have 8 others, but the policy has no `levels`" in (
        findings[0].message)


def test_findings_are_cut_at_a_limit() -> None:
    names = "".join(f"  - NAME_{i}\n" for i in range(FINDINGS_LIMIT + 5))
    valid, findings = _check(GOOD.replace("coalitions: [web, data]\n", "coalitions:\n" + names))
    assert not valid
    assert len(findings) == FINDINGS_LIMIT + 1
    assert findings[-1].id == Id.POLICY_TRUNCATED
    assert findings[-1].severity is Severity.ERROR


def test_many_warnings_leave_a_policy_valid() -> None:
    names = "".join(f"  - n{i}\n" for i in range(FINDINGS_LIMIT + 5))
    text = GOOD.replace("coalitions: [web, data]\n", "coalitions:\n  - web\n  - data\n" + names)
    valid, findings = _check(text)
    assert valid
    assert len(findings) == FINDINGS_LIMIT + 1
    assert {f.severity for f in findings} == {Severity.WARNING}
    assert findings[-1].id == Id.POLICY_TRUNCATED


def _documented() -> dict[str, str]:
    """The sections of the reference, by the id in their heading."""
    text = (ROOT / "docs/reference/findings.md").read_text(encoding="utf-8")
    parts = re.split(r"^### `([a-z0-9.-]+)`.*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_is_made_from_its_texts() -> None:
    assert findings_page.PAGE.read_text(encoding="utf-8") == findings_page.page(), (
        "run: python -m tests.policy.findings_page"
    )


def test_exactly_the_ids_that_can_occur_are_documented() -> None:
    assert set(_documented()) == {str(id) for id in Id}


@pytest.mark.parametrize("id", list(Id))
def test_each_id_is_documented_with_meaning_example_and_fix(id: Id) -> None:
    section = _documented()[str(id)]
    assert "Example" in section
    assert "Fix" in section
    warns = any(bad.warning for bad in CASES if bad.id == id) or id == Id.RESOURCE_UNMATCHED
    assert ("Warning." in section) == warns


def test_findings_are_made_from_catalogued_ids_only() -> None:
    """No module of the package invents an id: `Finding(...)` is called in two known ways only."""
    package = Path(str(shype.policy.__file__)).parent
    calls = []
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("error", "warning"):
                    first = ast.unparse(node.args[0])
                    assert first == "id" or first.startswith("Id."), (path.name, node.lineno)
                if node.func.id == "Finding":
                    calls.append((path.name, ast.unparse(node.args[0])))
    assert sorted(calls) == [
        ("findings.py", "str(id)"), ("findings.py", "str(id)"), ("loader.py", "last.id"),
    ]
