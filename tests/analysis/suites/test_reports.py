"""JUnit's XML and TAP: what other programs read of the outcomes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.analysis.suites import junit, tap
from shype.analysis.suites.model import Outcome, Test
from shype.analysis.suites.reading import Reader
from shype.analysis.suites.running import run
from tests.analysis.suites.bad_suites import EXAMPLES, GOOD, READ, TODAY, read

#: The shape of JUnit's reports that Jenkins, GitLab and others agree on: by element, the
#: attributes (with how they are written) and the elements inside.
_NUMBER, _TIME, _ANY = r"\d+", r"\d+(\.\d+)?", r"[^\x00-\x1f]*"
SHAPE = {
    "testsuites": ({"name": _ANY, "tests": _NUMBER, "failures": _NUMBER, "errors": _NUMBER,
                    "time": _TIME}, {"testsuite"}),
    "testsuite": ({"name": _ANY, "tests": _NUMBER, "failures": _NUMBER, "errors": _NUMBER,
                   "skipped": _NUMBER, "time": _TIME}, {"testcase"}),
    "testcase": ({"name": _ANY, "classname": _ANY, "time": _TIME, "file": _ANY, "line": _NUMBER},
                 {"failure", "error"}),
    "failure": ({"type": _ANY, "message": _ANY}, set()),
    "error": ({"type": _ANY, "message": _ANY}, set()),
}


def shaped(element: ElementTree.Element) -> None:
    """``element`` and all in it have that shape, and the numbers add up."""
    attributes, inside = SHAPE[element.tag]
    assert element.attrib.keys() == attributes.keys()
    for name, value in element.attrib.items():
        assert re.fullmatch(attributes[name], value), (element.tag, name, value)
    for child in element:
        assert child.tag in inside
        shaped(child)
    if element.tag.startswith("testsuite"):
        for count, path in (
            ("tests", ".//testcase"), ("failures", ".//failure"), ("errors", ".//error")
        ):
            assert int(element.attrib[count]) == len(element.findall(path))


def outcomes(text: str = GOOD) -> list[Outcome]:
    """Of the tests in ``text``."""
    tests, findings = read(text)
    assert findings == []
    return list(run(tests))


WRONG = GOOD.replace("via grant: yes", "via grant: no").replace("* start: yes", "* start: no")


def test_a_report_has_the_shape_that_ci_systems_read() -> None:
    root = ElementTree.fromstring(junit.report(outcomes(WRONG)))
    shaped(root)
    assert root.attrib["failures"] == "7"
    case = root.findall(".//testcase")[0]
    assert case.attrib["name"] == "wards and laboratory: may surgery -> laboratory via grant"
    assert case.attrib["line"] == "6"
    failure = case.find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "expected no, got yes (ste.shared)"
    assert failure.text is not None
    assert "they share the coalition results" in failure.text
    assert "hospital.yaml:16:3" in failure.text


def test_what_cannot_be_run_is_in_the_report_too() -> None:
    _, findings = read(GOOD.replace("may surgery", "may surgry").replace("shype-test: 1\n", ""))
    root = ElementTree.fromstring(junit.errors(findings))
    shaped(root)
    assert [e.attrib["type"] for e in root.iter("error")] == [f.id for f in findings]


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_character_breaks_a_report(title: str, file: str) -> None:
    escaped = "".join(f"\\U{ord(char):08x}" for char in title)
    text = f'{GOOD[:GOOD.index("  wards")]}  "{escaped}":\n    - may surgery start: no\n'
    reader = Reader(TODAY, READ)
    made = reader.read_text(text, file, EXAMPLES)
    assert [f.id for f in reader.findings] == []
    found = list(run(made))
    root = ElementTree.fromstring(junit.report(found))
    shaped(root)
    lines = list(tap.lines(found, len(found)))
    assert all(line.isprintable() for line in lines)
    assert lines[2].count(" - ") >= 1
    assert re.match(r"not ok 1 - ((\\[\\#])|[^\\#])*$", lines[2])


def test_tap_version_14() -> None:
    found = outcomes(WRONG)
    lines = list(tap.lines(found, len(found)))
    assert lines[:2] == ["TAP version 14", f"1..{len(found)}"]
    points = [line for line in lines if re.match(r"(not )?ok \d+ - ", line)]
    assert [int(point.removeprefix("not ").split()[1]) for point in points] == list(
        range(1, len(found) + 1))
    assert [not point.startswith("not") for point in points] == [o.passed for o in found]
    blocks = re.findall(r"^  ---\n(.*?)^  \.\.\.$", "\n".join(lines) + "\n", re.M | re.S)
    assert len(blocks) == 7
    told = yaml.safe_load(blocks[0])
    assert told["message"] == "expected no, got yes (ste.shared)"
    assert (Path(told["file"]).name, told["line"]) == ("t.test.yaml", 6)


def test_a_sign_that_begins_a_directive_is_escaped() -> None:
    made = outcomes()[0].test
    odd = Test(**{**{name: getattr(made, name) for name in Test.__slots__},
                  "title": r"a # TODO \ b"})
    (outcome,) = run([odd])
    assert r"a \# TODO \\ b" in list(tap.lines([outcome], 1))[2]
    assert list(tap.bail_out("#1")) == ["TAP version 14", r"Bail out! \#1"]
