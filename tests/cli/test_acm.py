"""`shype import acm`: exit codes, output, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import main as cli
from shype.policy.loader import load
from tests.policy.acm.spoiled import CASES, GOOD


def _write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def test_a_clean_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.yaml"
    assert cli.main(["import", "acm", _write(tmp_path / "p.xml", GOOD), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said == (
        f"{out}: policy shop 1.1: 4 labels, 3 coalitions, 1 conflict set, 2 resource labels, "
        "0 findings\n"
    )
    assert load(out).policy.host.dom0 == "boss"


def test_findings_make_it_one_and_the_policy_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in CASES if case.id == "acm.self-conflict")
    path, out = _write(tmp_path / "p.xml", case.text), tmp_path / "new.yaml"
    assert cli.main(["import", "acm", path, "-o", str(out)]) == 1
    said = capsys.readouterr().out
    assert f"{path}:26:1: error: the label `Web`" in said
    assert "[acm.self-conflict]\n  fix: " in said
    assert load(out).policy.labels


def test_json_has_findings_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path / "p.xml", GOOD.replace("<Version>1.1</Version>\n", ""))
    assert cli.main(["import", "acm", "--json", path, "-o", str(tmp_path / "o.yaml")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [f["id"] for f in answer["findings"]] == ["acm.no-version"]
    assert (answer["findings"][0]["line"], answer["findings"][0]["column"]) == (2, 1)
    assert answer["generation"] == "2006"
    assert answer["policy"] == {"name": "shop", "version": "0.1"}
    assert answer["names"] == {
        "labels": {"Boss": "boss", "Web": "web", "Data": "data", "__UNLABELED__": "unlabeled"},
        "coalitions": {"Front": "front", "Back": "back", "__UNLABELED__": "unlabeled"},
        "members": {"Red": "red", "Blue": "blue"}, "walls": {"Rivals": "rivals"},
        "resource-labels": {"Disk (hda)": "disk-hda", "__UNLABELED__": "unlabeled"},
    }


@pytest.mark.parametrize(("text", "id"), [
    ("", "acm.xml"), ("<a/>", "acm.root"), ("<!DOCTYPE a><a/>", "acm.doctype"),
    (GOOD.split("<SecurityLabelTemplate>")[0] + "</SecurityPolicyDefinition>", "acm.files"),
])
def test_what_cannot_be_read_is_two_and_writes_nothing(
    text: str, id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = _write(tmp_path / "p.xml", text), tmp_path / "new.yaml"
    assert cli.main(["import", "acm", path, "-o", str(out)]) == 2
    assert f"[{id}]" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main(["import", "acm", "--json", path, "-o", str(out)]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["error"], answer["file"]) == (id, path)


def test_a_missing_file_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "new.yaml")
    for path in (tmp_path / "none.xml", tmp_path):
        assert cli.main(["import", "acm", str(path), "-o", out]) == 2
        assert "[acm.file]" in capsys.readouterr().err


def test_an_import_does_not_undo_what_was_written_into_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = _write(tmp_path / "p.xml", GOOD), tmp_path / "new.yaml"
    words = ["import", "acm", path, "-o", str(out)]
    assert cli.main(words) == 0
    assert cli.main(words) == 0  # it says the same
    mine = out.read_text() + "vms: {web-1: web}\n"
    out.write_text(mine)
    assert cli.main(words) == 2
    assert "[acm.out]" in capsys.readouterr().err
    assert out.read_text() == mine


def test_an_export_replaces_xml_and_no_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, xml = tmp_path / "new.yaml", tmp_path / "old.xml"
    assert cli.main(["import", "acm", _write(tmp_path / "p.xml", GOOD), "-o", str(policy)]) == 0
    for _ in range(2):
        assert cli.main(["export", "acm", str(policy), "-o", str(xml)]) < 2
    before = policy.read_text()
    assert cli.main(["export", "acm", str(policy), "-o", str(policy)]) == 2
    assert "[acm.out]" in capsys.readouterr().err
    assert policy.read_text() == before
