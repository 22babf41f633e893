"""`shype check`: output, JSON and exit codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from shype.cli import check
from shype.policy import schema
from tests.policy.good_policies import GOOD

ROOT = Path(__file__).resolve().parents[2]


def _run(*argv: str) -> int:
    top = argparse.ArgumentParser(prog="shype")
    check.add(top.add_subparsers())
    args = top.parse_args(["check", *argv])
    return int(args.run(args))


def test_a_valid_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(ROOT / "examples/banks.yaml")) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "banks.yaml: ok: policy banks 1.0, 6 labels, 3 coalitions, 1 conflict set; "
        "5 assertions hold; 0 errors, 0 warnings\n"
    )


def test_warnings_do_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(ROOT / "examples/two-hosts.yaml")) == 0
    out = capsys.readouterr().out
    assert "two-hosts.yaml:18:3: warning: " in out
    assert "0 errors, 1 warning\n" in out


def test_errors_are_all_shown_with_place_id_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        GOOD.replace("[data], wall", "[dat], wall").replace("dom0: boss", "dom0: bos"), "utf-8"
    )
    assert _run(str(path)) == 2
    out = capsys.readouterr().out
    assert out == (
        f"{path}:9:23: error: the coalition `dat` is not declared [coalition.undeclared]\n"
        "  fix: did you mean `data`? otherwise declare it under `coalitions`\n"
        f"{path}:11:14: error: the label of dom0, `bos` is not declared [host.dom0-undeclared]\n"
        "  fix: did you mean `boss`? otherwise declare it under `labels`\n"
        f"{path}: 2 errors, 0 warnings\n"
    )


def test_json_of_a_valid_policy(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(ROOT / "examples/banks.yaml")
    assert _run(path, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said.pop("assertions")) == 5
    assert said == {
        "file": path, "ok": True, "policy": {"name": "banks", "version": "1.0"}, "findings": [],
    }


def test_json_of_an_invalid_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("does-not-exist.yaml", "--json") == 2
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is False
    assert value["policy"] is None
    assert value["file"] == "does-not-exist.yaml"
    assert [
        (f["id"], f["severity"], f["file"], f["line"], f["column"]) for f in value["findings"]
    ] == [("file.missing", "error", "does-not-exist.yaml", 1, 1)]
    assert set(value["findings"][0]) == {
        "id", "severity", "file", "line", "column", "message", "fix",
    }


def test_schema_is_printed_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--schema") == 0
    assert json.loads(capsys.readouterr().out) == schema.document()


@pytest.mark.parametrize("argv", [[], ["--schema", "p.yaml"]])
def test_either_a_file_or_schema(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(*argv)
    assert caught.value.code == 2
