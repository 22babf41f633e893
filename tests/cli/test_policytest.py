"""`shype test`: output, reports and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from shype.cli import policytest
from shype.cli.main import main
from tests.host.builders import bundle
from tests.signing import AUTHOR, sealed

ROOT = Path(__file__).resolve().parents[2]
SUITE = """\
shype-test: 1
policy: banks.yaml
tests:
  the banks:
    - may bank-a-db -> bank-b-*: no
    - may bank-a-db -> bank-a-desk via grant: yes
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A policy and its tests, which pass."""
    (tmp_path / "banks.yaml").write_text((ROOT / "examples/banks.yaml").read_text())
    path = tmp_path / "deep/er/banks.test.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(SUITE.replace("banks.yaml", "../../banks.yaml"))
    return path


def test_all_as_expected(suite: Path, capsys: Capture) -> None:
    assert main(["test", str(suite.parents[2])]) == 0
    said = capsys.readouterr().out
    assert f"{suite}: 3 ok\n" in said
    assert "3 tests: 3 ok, 0 failed\n" in said
    assert "coverage: " in said


def test_what_fails_is_told_in_full(suite: Path, capsys: Capture) -> None:
    suite.write_text(suite.read_text().replace("bank-b-*: no", "bank-?-desk: no"))
    assert main(["test", str(suite)]) == 1
    said = capsys.readouterr().out
    policy = suite.parents[2] / "banks.yaml"
    assert f"""
FAILED {suite}:5:7: the banks
  may bank-a-db -> bank-?-desk
  may bank-a-db -> bank-a-desk
  expected no, got yes (ste.shared)
""" in said
    assert "they share the coalition bank-a. [ste.shared]\n" in said
    assert f"      at: {policy}:17:3\n" in said
    assert "FAILED" in said.splitlines()[0]


def test_very_many_that_fail_are_counted(
    suite: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policytest, "_MANY", 60)
    suite.write_text(SUITE.split("    -")[0].replace("banks.yaml", "../../banks.yaml")
                     + "    - may * -> *: {answer: no, because: label.retired}\n"
                     + "    - may bank-? start while *, bank-a-* run: no\n".replace("?", "*"))
    assert main(["test", str(suite)]) == 1
    told = capsys.readouterr()
    assert told.out.count("\nFAILED ") == 50, told.out
    assert re.search(r"\nand \d+ more FAILED", told.out)
    assert "tests" in told.err, "it takes a while: say so"


def test_a_wrong_test_file_is_bad_input_and_nothing_is_asked(suite: Path, capsys: Capture) -> None:
    text = suite.read_text().replace("bank-a-desk", "bank-a-dsk").replace(": no", ": nö")
    suite.write_text(text)
    report = suite.parent / "report.xml"
    assert main(["test", str(suite), "--junit", str(report)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{suite}:5:34: error: `nö` is no answer [test.answer]\n" in said.err
    assert "did you mean `bank-a-desk`?" in said.err
    assert said.err.count("error:") == 3
    assert ElementTree.parse(report).getroot().attrib["errors"] == "2"
    assert main(["test", str(suite), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "test.invalid"
    assert [finding["id"] for finding in told["findings"]] == ["test.answer", "test.label-unknown"]
    assert main(["test", str(suite), "--tap"]) == 2
    assert capsys.readouterr().out.startswith("TAP version 14\nBail out! ")


def test_a_policy_with_errors_is_bad_input_with_its_findings(suite: Path, capsys: Capture) -> None:
    policy = suite.parents[2] / "banks.yaml"
    policy.write_text(policy.read_text().replace("wall: [bank-b]", "wall: [bank-c]"))
    assert main(["test", str(suite)]) == 2
    said = capsys.readouterr().err
    assert "[wall.undeclared-member]" in said
    assert f"{suite}:2:9: error: the policy {policy} cannot be tested: it has errors" in said


@pytest.mark.parametrize("words", [[], ["--json"], ["--tap"]])
def test_no_test_at_all_never_passes(tmp_path: Path, words: list[str], capsys: Capture) -> None:
    (tmp_path / "x.yaml").write_text("tests: none\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/y.test.yaml").write_text(SUITE)
    assert main(["test", str(tmp_path), *words]) == 2
    assert "there is no test file below" in "".join(capsys.readouterr())
    assert main(["test", str(tmp_path / "no"), *words]) == 2


def test_a_filter_that_finds_nothing_never_passes(suite: Path, capsys: Capture) -> None:
    assert main(["test", str(suite), "-k", "bank-c"]) == 2
    assert "[test.none]" in capsys.readouterr().err
    assert main(["test", str(suite), "-k", "via grant"]) == 0
    assert "1 test: 1 ok" in capsys.readouterr().out


def test_list(suite: Path, capsys: Capture) -> None:
    assert main(["test", str(suite), "--list", "-k", "bank-b"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{suite}:5:7: the banks: may bank-a-db -> bank-b-db: no",
        f"{suite}:5:7: the banks: may bank-a-db -> bank-b-desk: no",
    ]
    assert main(["test", str(suite), "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tests"]) == 3


def test_json(suite: Path, capsys: Capture) -> None:
    assert main(["test", str(suite), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["passed"], told["failed"]) == (True, 3, 0)
    assert told["tests"][2]["question"] == "may bank-a-db -> bank-a-desk via grant"
    assert told["tests"][2]["decisions"][0]["id"] == "ste.shared"
    rules = {each["rule"]: each["permit"] for each in told["coverage"]["each"]}
    assert rules["coalition bank-a"] == 1
    assert rules["coalition market"] == 0


def test_coverage(suite: Path, capsys: Capture) -> None:
    policy = suite.parents[2] / "banks.yaml"
    assert main(["test", str(suite), "--coverage"]) == 0
    assert f"  {policy}:10:30: coalition market determined nothing\n" in capsys.readouterr().out
    assert main(["test", str(suite), "--min-coverage", "30"]) == 0
    capsys.readouterr()
    assert main(["test", str(suite), "--min-coverage", "80"]) == 1
    assert "coverage is below 80%\n" in capsys.readouterr().out
    assert main(["test", str(suite), "--min-coverage", "80", "--tap"]) == 1
    assert "# coverage is below 80%\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["test", str(suite), "--min-coverage", "800"])


def test_the_day_decides_about_guards(capsys: Capture) -> None:
    suite = str(ROOT / "examples/tests/hospital.test.yaml")
    assert main(["test", suite, "--date", "2099-06-29"]) == 0
    assert main(["test", suite, "--date", "2099-06-30"]) == 1
    assert "[guard.expired]" in capsys.readouterr().out


def test_reports_are_written_beside_the_output(suite: Path, capsys: Capture) -> None:
    report = suite.parent / "r.xml"
    assert main(["test", str(suite), "--tap", "--junit", str(report)]) == 0
    assert capsys.readouterr().out.startswith("TAP version 14\n1..3\nok 1 - ")
    assert ElementTree.parse(report).getroot().attrib["tests"] == "3"


def test_a_bundle_can_be_tested_and_a_damaged_one_cannot(tmp_path: Path, capsys: Capture) -> None:
    sealed_ = tmp_path / "banks.shype"
    sealed_.write_bytes(sealed(bundle(tmp_path).path, AUTHOR))
    path = tmp_path / "b.test.yaml"
    path.write_text(SUITE.replace("banks.yaml", "banks.shype"))
    assert main(["test", str(path)]) == 0
    sealed_.write_bytes(sealed_.read_bytes()[:900])
    assert main(["test", str(path)]) == 2
    assert "[test.policy]" in capsys.readouterr().err


def test_an_empty_word_is_no_directory(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that is not set in a CI must not test the present directory."""
    with pytest.raises(SystemExit) as end:
        main(["test", ""])
    assert end.value.code == 2
    assert "is a variable not set" in capsys.readouterr().err
