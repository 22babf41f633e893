"""`shype check` and `shype build` with assertions: paths, states, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BANKS = str(ROOT / "examples/banks.yaml")
HEAD = "shype-assert: 1\nassert:\n"


def _file(tmp_path: Path, *entries: str) -> str:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD + "".join(f"  - {entry}\n" for entry in entries))
    return str(path)


@pytest.mark.parametrize("name", ["banks", "hospital", "classified"])
def test_the_examples_assert_something_that_holds(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(ROOT / f"examples/{name}.yaml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["assertions"]) >= 4
    assert all(one["holds"] and one["about"] and not one["idle"] for one in said["assertions"])


def test_a_violation_shows_path_rules_and_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, '{never: bank-a-db -> bank-b-db, via: [grant], reason: "rivals\\e"}')
    assert main(["check", BANKS, "--assert", path]) == 1
    out = capsys.readouterr().out
    assert f"{path}:3:5: error: `never: bank-a-db -> bank-b-db` is violated" in out
    assert "[assert.never]" in out
    assert "asserted because: rivals\\x1b\n" in out
    assert ("bank-a-db -> bank-a-desk -> market-data -> bank-b-desk -> bank-b-db"
            "   (never all at once)") in out
    assert "bank-a-desk may map pages of bank-a-db to read them" in out
    assert f"{BANKS}:19:3" in out
    assert ("stop bank-a-db, bank-a-desk; start bank-b-desk; "
            "then run: market-data, bank-b-desk") in out
    assert "1 of 6 assertions violated; 1 error, 0 warnings" in out
    assert ": ok:" not in out


def test_json_of_a_violation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, "{never: bank-a-* -> bank-b-*, name: apart}")
    assert main(["check", BANKS, "--assert", path, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert [one["id"] for one in said["findings"]] == ["assert.never"]
    mine = said["assertions"][-1]
    assert (mine["name"], mine["holds"], mine["about"], mine["violated"]) == ("apart", False, 4, 4)
    assert len(mine["violations"]) == 3
    first = mine["violations"][0]["paths"][0]
    assert first["at_once"] is False
    assert [step["id"] for step in first["steps"]] == ["ste.shared"] * len(first["steps"])
    assert first["states"][0]["start"] == ["bank-a-db", "bank-a-desk"]


def test_a_wrong_file_of_assertions_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, "{never: bank-a-db -> bank-c-db}", "{only: x}")
    assert main(["check", BANKS, "--assert", path, "--assert", str(tmp_path / "none")]) == 2
    out = capsys.readouterr().out
    assert f"{path}:3:13: error: there is no label `bank-c-db` [assert.unknown]" in out
    assert "[key.unknown]" in out
    assert "[file.missing]" in out
    assert "assertions" not in out


def test_a_missing_flow_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(
        tmp_path, "{exactly: [bank-a-desk -> bank-b-desk], via: [grant]}",
        "{exactly: [bank-a-db -> bank-b-db]}")
    assert main(["check", BANKS, "--assert", path]) == 1
    out = capsys.readouterr().out
    assert "there is no direct flow bank-a-desk -> bank-b-desk, which is listed" in out
    assert "the wall banks separates bank-a from bank-b. [wall.conflict]" in out
    assert "no coalition in common (bank-a-db: bank-a; bank-b-db: bank-b). [ste.disjoint]" in out


def test_a_door_that_nothing_passes_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, "{only-through: statistics -> surgery, by: [anonymiser]}")
    assert main(["check", str(ROOT / "examples/hospital.yaml"), "--assert", path]) == 0
    out = capsys.readouterr().out
    assert "warning: `only-through: statistics -> surgery` holds because there is no path" in out
    assert "[assert.idle]" in out
    assert "5 assertions hold; 0 errors, 1 warning" in out


@pytest.mark.parametrize("as_json", [False, True])
def test_build_refuses_what_violates_its_own_assertions(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, out = tmp_path / "p.yaml", tmp_path / "p.shype"
    policy.write_text((ROOT / "examples/hospital.yaml").read_text().replace(
        "research: {}", "research: {}  # as before") + "  - never: surgery -> statistics\n")
    words = ["build", str(policy), "--target", "xen-4.17", "--unsigned", "-o", str(out)]
    assert main([*words, "--json"] if as_json else words) == 1
    said = capsys.readouterr()
    assert "surgery -> anonymiser -> statistics" in said.err
    assert "shype: not built: 1 of 5 assertions violated" in said.err
    assert not out.exists()
    if as_json:
        assert json.loads(said.out)["built"] is False
    else:
        assert not said.out
