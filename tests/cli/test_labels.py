"""`shype labels` and `shype label`: output, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import main as cli
from tests.policy.test_editing import HEAD, RESOURCES

BODY = HEAD + RESOURCES + "vms: {v: front}\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(BODY)
    return str(path)


def test_labels(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["labels", file]) == 0
    assert capsys.readouterr().out == "back\nboss\nfront\nno\n"
    assert cli.main(["labels", file, "--kind", "resource"]) == 0
    assert capsys.readouterr().out == "fast\nslow\n"
    assert cli.main(["labels", file, "--kind", "any"]) == 0
    assert "resource  fast\n" in capsys.readouterr().out
    assert cli.main(["labels", file, "--kind", "any", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "vm": ["back", "boss", "front", "no"], "resource": ["fast", "slow"],
    }


def test_get_set_remove_of_a_vm(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "get", file, "vm", "v"]) == 0
    assert capsys.readouterr().out == "front\n"
    assert cli.main(["label", "set", file, "vm", "v", "back"]) == 0
    assert capsys.readouterr().out == "v: back (before: front)\n"
    assert Path(file).read_text() == BODY.replace("v: front", "v: back")
    assert cli.main(["label", "set", file, "vm", "v", "back"]) == 0
    assert capsys.readouterr().out == "v: back\n"
    assert cli.main(["label", "remove", file, "vm", "v", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "v", "before": "back"}
    assert cli.main(["label", "remove", file, "vm", "v"]) == 1
    assert "v has no label" in capsys.readouterr().err
    assert cli.main(["label", "get", file, "vm", "v", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"name": "v", "label": None}


def test_of_a_resource(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "set", file, "resource", "disk", "/dev/x", "fast"]) == 0
    assert cli.main(["label", "get", file, "resource", "disk", "/dev/x"]) == 0
    assert capsys.readouterr().out == "/dev/x: fast\nfast\n"
    assert cli.main(["label", "get", file, "resource", "network", "br-x"]) == 1
    assert cli.main(["label", "remove", file, "resource", "disk", "/dev/x"]) == 0


def test_what_is_wrong_changes_nothing(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "set", file, "vm", "v", "nobody"]) == 2
    assert "[label.unknown]" in capsys.readouterr().err
    assert cli.main(["label", "set", file, "vm", "v", "boss"]) == 2
    assert "[edit.refused]" in capsys.readouterr().err
    assert Path(file).read_text() == BODY
