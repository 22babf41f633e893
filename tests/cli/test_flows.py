"""`shype flows` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
HOSPITAL, BANKS = str(ROOT / "examples/hospital.yaml"), str(ROOT / "examples/banks.yaml")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["flows", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, HOSPITAL)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["laboratory", "anonymiser", "direct", "event,", "grant"] in rows
    assert ["laboratory", "statistics", "guard", "through", "anonymiser"] in rows
    assert "pairs of labels: 13 direct, 6 guard" in out
    assert "7 channels that no policy mediates" in out


def test_one_side(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, HOSPITAL, "--to", "anonymiser")
    firsts = {line.split("  ")[0] for line in out.splitlines()[1:3]}
    assert firsts == {"surgery, maternity", "laboratory"}


def test_a_path_with_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, HOSPITAL, "--from", "surgery", "--to", "statistics", "--why")
    assert code == 0
    assert out.startswith("surgery -> anonymiser -> statistics\n")
    assert f"{HOSPITAL}:25:3" in out


def test_a_path_over_time_shows_the_states(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, BANKS, "--from", "bank-a-db", "--to", "bank-b-db", "--via", "grant")
    assert code == 0
    assert "never all at once" in out
    assert "3. stop bank-a-db, bank-a-desk; start bank-b-desk" in out


def test_a_vm_stands_for_its_label(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, BANKS, "--from", "a-db", "--to", "vm:a-desk")
    assert code == 0
    assert out.startswith("bank-a-db -> bank-a-desk\n")
    code, out, _ = run(capsys, BANKS, "--from", "dom0", "--to", "a-db", "--layer", "direct")
    assert code == 0


def test_a_path_through_others_does_not_hide_a_direct_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The desks meet by disk and network, though not by what the hypervisor carries."""
    _, out, _ = run(capsys, BANKS, "--from", "bank-a-desk")
    (row,) = [line for line in out.splitlines() if line.split()[1] == "bank-b-desk"]
    assert "through market-data; also directly by disk, network" in row
    assert "pairs of labels" not in out, "that would be about all"
    _, out, _ = run(capsys, BANKS, "--from", "bank-a-desk", "--layer", "direct")
    assert "disk" not in out, "no step of that layer"


def test_every_label_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    labels = "".join(f"  l{n}: {{coalitions: [a]}}\n" for n in range(5))
    path.write_text('shype: 1\npolicy: {name: p, version: "1.0"}\ncoalitions: [a]\nlabels:\n'
                    f"  m: {{coalitions: all}}\n{labels}host: {{dom0: m}}\n")
    _, out, _ = run(capsys, str(path))
    assert "l0, l1 and 3 like them" in out
    assert "alike: l0, l1, l2, l3, l4" in out


def test_nothing_flows(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, HOSPITAL, "--from", "statistics", "--to", "surgery")
    assert code == 1
    assert "nothing of statistics gets to surgery" in out
    assert "--layer dom0" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, HOSPITAL, "--json")
    assert code == 0
    value = json.loads(out)
    assert value["labels"] == {
        "direct": 13, "transitive": 0, "guard": 6, "shared": 0, "driver": 0}
    assert {"from": ["laboratory"], "to": ["statistics"], "layer": "guard", "mechanisms": [],
            "path": ["laboratory", "anonymiser", "statistics"]} in value["pairs"]
    assert {c["kind"] for c in value["unmediated"]} == {"overt", "storage", "timing"}
    code, out, _ = run(capsys, HOSPITAL, "--from", "surgery", "--to", "statistics", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["layer"] == "guard"
    (route,) = value["routes"]
    assert route["path"] == ["surgery", "anonymiser", "statistics"]
    assert route["states"][0]["running"] == ["surgery", "anonymiser"]


def test_what_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    state = tmp_path / "running.json"
    state.write_text(json.dumps({"domains": [
        {"domid": 1, "vm": "w1", "label": "surgery"}, {"domid": 2, "vm": "s1",
                                                       "label": "statistics"}]}))
    code, _, _ = run(
        capsys, HOSPITAL, "--from", "surgery", "--to", "statistics", "--state", str(state))
    assert code == 1, "the guard does not run"


def test_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, HOSPITAL, "--format", "dot")
    assert code == 0
    assert out.startswith('digraph "hospital" {')
    target = tmp_path / "flows.dot"
    assert run(capsys, HOSPITAL, "--format", "dot", "-o", str(target)) == (0, "", "")
    assert target.read_text() == out


@pytest.mark.parametrize(("words", "id"), [
    (["--from", "nobody"], "label.unknown"),
    (["--from", "disk:/nowhere"], "flow.unknown"),
    (["--format", "dot", "--from", "surgery"], "flow.options"),
    (["--format", "dot", "--all"], "flow.options"),
    (["--why"], "flow.options"),
    (["--via", "telepathy"], "flow.mechanism"),
    (["--limit", "0"], "flow.limit"),
    (["-o", "x"], "flow.output"),
])
def test_bad_questions(capsys: pytest.CaptureFixture[str], words: list[str], id: str) -> None:
    code, _, err = run(capsys, HOSPITAL, *words)
    assert code == 2
    assert f"[{id}]" in err


def test_json_and_a_picture_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, HOSPITAL, "--format", "svg", "--json")
    assert code == 2
    assert json.loads(out)["error"] == "flow.options"


def test_completion_knows_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["flows", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "covert" in out
    assert max(map(len, out.splitlines())) <= 100
