"""`shype walls` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BANKS = str(ROOT / "examples/banks.yaml")
TWO_HOSTS = str(ROOT / "examples/two-hosts.yaml")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main(["walls", *words])
    return (code, *capsys.readouterr())


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, BANKS)
    assert (code, err) == (0, "")
    assert "banks 1.0: 1 wall, 6 labels in 3 classes" in out
    assert "maximal sets of labels: 2; most labels at once: 3" in out
    assert "at the same time: 2\n  no two of these share a host: bank-a-db and bank-b-db" in out
    assert "bank-a from bank-b (wall banks)" in out
    assert out.endswith("nothing is wrong with the walls\n")


def test_the_report_says_who_never_starts(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, TWO_HOSTS)
    assert code == 0
    assert "never starts: test-bench: dom0 (production-admin) may not run" in out


def test_findings_are_one_with_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(BANKS).read_text().replace(
        "{banks: [bank-a, bank-b]}", "{banks: [bank-a, bank-b], idle: [bank-a, nobody]}")
    file = tmp_path / "p.yaml"
    file.write_text(text)
    code, out, _ = run(capsys, str(file))
    assert code == 1
    assert "finding: the wall idle can never refuse a start: only bank-a is held" in out
    assert f"at: {file}:13:" in out
    assert out.endswith("1 finding\n")
    code, out, _ = run(capsys, str(file), "--json")
    assert code == 1
    assert [f["id"] for f in json.loads(out)["findings"]] == ["walls.vacuous"]


def test_together_yes_by_which_starts(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, BANKS, "--together", "a-db", "market", "a-desk")
    assert code == 0
    assert out.splitlines()[0] == (
        "yes: bank-a-db, market-data and bank-a-desk can run at the same time on one host")
    assert len(out.splitlines()) == 5


def test_together_no_because_of_which_wall(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, BANKS, "--together", "a-db", "market", "b-db")
    assert code == 1
    assert "the wall banks separates bank-a from bank-b" in out
    assert "examples/banks.yaml:13:9" in out
    code, out, _ = run(capsys, "--json", BANKS, "--together", "a-db", "market", "b-db",
                       "--hosts", "2")
    assert code == 0
    answer = json.loads(out)
    assert answer["possible"]
    assert answer["state"] == {"host 1": ["bank-a-db", "market-data"], "host 2": ["bank-b-db"]}
    assert answer["trace"][1] == {
        "host": "host 1", "start": "market-data", "running": ["bank-a-db", "market-data"]}


def test_starve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, BANKS, "--starve", "a-db", "--hosts", "2")
    assert code == 1
    assert out.splitlines()[0] == "yes: bank-a-db cannot start while VMs of bank-b-db run"
    assert "host 2: bank-a-db and bank-b-db may not run on one host" in out
    code, out, _ = run(capsys, BANKS, "--starve", "market")
    assert (code, out) == (0, "no: market-data can always start on host 1\n")
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"hosts": [
        {"name": "left"}, {"name": "right", "labels": ["bank-a-db"]}]}))
    code, out, _ = run(capsys, BANKS, "--starve", "a-db", "--hosts", str(hosts))
    assert (code, out) == (0, "no: bank-a-db can always start on right\n")
    code, out, _ = run(capsys, TWO_HOSTS, "--starve", "test-bench")
    assert code == 1
    assert out.startswith("yes: test-bench never starts\n")


def test_over_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, BANKS, "--over-time")
    assert code == 1
    assert "8 ordered pairs of labels never run at once" in out
    assert "bank-a-desk -> bank-b-desk (transitive): bank-a-desk -> market-data -> bank-b-desk\n" \
        "  start bank-a-desk and market-data; then run: bank-a-desk and market-data\n" \
        "  stop bank-a-desk; start bank-b-desk; then run: market-data and bank-b-desk\n" in out
    code, out, _ = run(capsys, BANKS, "--over-time", "--json")
    assert (code, json.loads(out)["crossed"]) == (1, 8)
    code, out, _ = run(capsys, TWO_HOSTS, "--over-time")
    assert code == 1  # both controllers log to one server
    code, out, _ = run(capsys, str(ROOT / "examples/hospital.yaml"), "--over-time")
    assert code == 0


@pytest.mark.parametrize(("words", "id"), [
    (["--together", "nobody"], "label.unknown"), (["--starve", "nobody"], "label.unknown"),
    (["--hosts", "0"], "walls.hosts"), (["--hosts", "1001"], "walls.hosts"),
    (["--hosts", "no-such-file"], "walls.hosts"), (["--starve", "dom0"], "walls.dom0"),
])
def test_bad_input(words: list[str], id: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, BANKS, *words)
    assert code == 2
    assert f"[{id}]" in err
