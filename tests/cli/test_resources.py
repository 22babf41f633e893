"""`shype resources`: tables, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main
from tests.policy.good_policies import RICH


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(RICH, encoding="utf-8")
    Path("host.txt").write_text(
        "disk /dev/vg0/mail-db\ndisk /dev/vg0/mail-web\ndisk /dev/sda\npci 03:00.1\n", "utf-8"
    )


def test_the_entries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "p.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KIND", "PATTERN", "LABEL", "COALITIONS", "LEVEL", "WHERE"]
    assert lines[1].split("  ", 1)[0] == "disk"
    assert "/dev/vg0/mail-*" in lines[1]
    assert "secret {names}, high" in lines[1]
    assert lines[1].endswith("p.yaml:27:5")
    assert " -  " in lines[2]  # no name
    assert "inaccessible" in lines[-1]
    assert len(lines) == 8


def test_a_host_s_resources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "p.yaml", "--inventory", "host.txt", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["policy"] == "clinic"
    assert [(r["name"], r["label"], r["by"], r["level"]) for r in said["resources"]] == [
        ("/dev/vg0/mail-db", "mail", "/dev/vg0/mail-*", "secret {names}, high"),
        ("/dev/vg0/mail-web", "", "/dev/vg0/mail-web", "public, low"),
        ("/dev/sda", "unlabeled", "", "public, low"),
        ("0000:03:00.1", "mail", "0000:03:00.*", "secret {names}, high"),
    ]


def test_without_a_label_for_the_rest_nobody_may_use_it(
    capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p.yaml").write_text(
        RICH.replace("  unlabeled: {level: public, integrity: low}\n", ""), encoding="utf-8"
    )
    assert main(["resources", "p.yaml", "--inventory", "host.txt"]) == 0
    row = capsys.readouterr().out.splitlines()[3]
    assert "unlabeled" in row
    assert "nobody may use it" in row


def test_a_policy_without_resources(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yaml").write_text(RICH[: RICH.index("resource-labels")], encoding="utf-8")
    assert main(["resources", "p.yaml"]) == 0
    assert capsys.readouterr().out == "no resources\n"


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "p.yaml", "--inventory", "none.txt"]) == 2
    assert "[inventory.unreadable]" in capsys.readouterr().err
    Path("p.yaml").write_text(RICH.replace("irq: 16", "irq: x"), encoding="utf-8")
    assert main(["resources", "p.yaml"]) == 2
    assert "resource.name" in capsys.readouterr().err


def test_check_judges_as_of_a_day_and_against_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "p.yaml", "--date", "2099-01-31"]) == 2
    assert "[guard.expired]" in capsys.readouterr().out
    assert main(["check", "p.yaml", "--date", "2099-01-30"]) == 0
    assert "[guard.expires-soon]" in capsys.readouterr().out
    assert main(["check", "p.yaml", "--inventory", "host.txt"]) == 0
    out = capsys.readouterr().out
    assert out.count("[resource.unmatched]") == 4
    assert "1 guard, 7 resources; 0 errors, 4 warnings" in out
    with pytest.raises(SystemExit) as caught:
        main(["check", "p.yaml", "--date", "31.1.2099"])
    assert caught.value.code == 2
    assert "YYYY-MM-DD" in capsys.readouterr().err
