"""`shype plan` on the command line: exit codes, and what tells bad input from a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main
from tests.analysis.policies import NEXT, OLD, running


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """old.yaml and new.yaml, which is its next version."""
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEXT)
    return tmp_path


def plan(files: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main(["plan", str(files / "old.yaml"), str(files / "new.yaml"), *more])
    return (code, *capsys.readouterr())


def test_clean(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = plan(files, capsys)
    assert code == 0
    assert "no pair of labels gains or loses" in out
    assert out.splitlines()[-1].startswith("clean: as far as the policies tell")


def test_needs_revocation_is_one_and_names_the_vms_and_the_channel(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "new.yaml").write_text(NEXT.replace("desk: {coalitions: [red, market]}",
                                                 "desk: {coalitions: [red]}"))
    state = running(d="desk", q="quotes")
    (files / "state.json").write_text(json.dumps(
        {**state, "channels": [{"a": "d", "b": "q", "operation": "grant.map_read"}]}))
    code, out, err = plan(files, capsys, "--state", str(files / "state.json"))
    assert (code, err) == (1, "")
    assert "the live channel (grant.map_read) from VM d" in out
    assert out.splitlines()[-1].startswith("needs-revocation: ")
    assert "d (domain 1), q (domain 2)" in out.splitlines()[-1]


def test_impossible_is_two_with_a_verdict(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "state.json").write_text(json.dumps(running(x="strange")))
    code, out, err = plan(files, capsys, "--state", str(files / "state.json"))
    assert (code, err) == (2, "")
    assert out.splitlines()[-1] == "impossible: without stopping x (domain 1)"
    code, out, _ = plan(files, capsys, "--json", "--state", str(files / "state.json"))
    assert code == 2
    assert json.loads(out)["verdict"] == "impossible"
    assert json.loads(out)["stop"] == [{"domid": 1, "vm": "x"}]


def test_bad_input_is_two_with_an_error(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "state.json").write_text("[]")
    code, out, err = plan(files, capsys, "--state", str(files / "state.json"))
    assert (code, out) == (2, "")
    assert "state.invalid" in err
    code, out, _ = plan(files, capsys, "--json", "--state", str(files / "none.json"))
    assert code == 2
    assert json.loads(out)["error"] == "state.unreadable"
    assert "verdict" not in json.loads(out)
