"""Every finding of an import: where it points, what it says, and that it is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shype.policy.acm.findings import Id
from shype.policy.acm.importer import Imported, import_documents
from tests.policy.acm.spoiled import CASES, GOOD, Spoiled

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/acm.md"


def _import(text: str) -> Imported:
    return import_documents([(text.encode(), "p.xml")])


def test_the_base_of_the_table_has_no_findings() -> None:
    assert _import(GOOD).findings == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.line}")
def test_a_spoiled_policy_gives_its_finding_at_its_place(case: Spoiled) -> None:
    done = _import(case.text)
    found = [f for f in done.findings if f.id == case.id]
    assert found, [str(f) for f in done.findings]
    assert {f.id for f in done.findings} == {case.id, *case.also}
    places = {(f.span.line, f.span.column): f for f in found}
    assert (case.line, case.column) in places, places.keys()
    finding = places[case.line, case.column]
    assert case.says in finding.message
    assert finding.fix
    assert not finding.message.endswith(".")
    assert "\n" not in finding.message + finding.fix
    assert f"[{case.id}]" in done.text, "the new policy repeats what was found"


def test_every_id_of_an_import_has_a_case() -> None:
    elsewhere = {Id.TEMPLATE_POLICY} | {id for id in Id if id.startswith("acm.export-")}
    assert {case.id for case in CASES} | elsewhere == set(Id)


def test_a_template_of_another_policy_is_reported() -> None:
    parts = GOOD.split("<SecurityLabelTemplate>")
    policy = parts[0] + "</SecurityPolicyDefinition>"
    template = (
        '<SecurityLabelTemplate xmlns="http://www.ibm.com">\n<LabelHeader><PolicyName>'
        "<Url>dir/other.xml</Url></PolicyName></LabelHeader>"
        + parts[1].replace("</SecurityPolicyDefinition>", "")
    )
    done = import_documents([(policy.encode(), "p.xml"), (template.encode(), "t.xml")])
    assert [f.id for f in done.findings] == ["acm.template-policy"]
    assert (done.findings[0].span.file, done.findings[0].span.line) == ("t.xml", 2)
    assert import_documents(
        [(template.replace("other.xml", "p.xml").encode(), "t.xml"), (policy.encode(), "x/p.xml")]
    ).findings == ()


def _documented() -> dict[str, str]:
    parts = re.split(r"^### `([a-z0-9.-]+)`$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_exactly_the_ids_that_can_occur_are_documented() -> None:
    assert list(_documented()) == [str(id) for id in Id]


@pytest.mark.parametrize("id", list(Id))
def test_each_id_is_documented_with_its_fix(id: Id) -> None:
    assert "Fix:" in _documented()[str(id)]
