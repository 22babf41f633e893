"""The main job, on the real hypervisor: every line of the demonstration as expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli.main import main
from shype.lab.builder import Built

pytestmark = pytest.mark.lab
BANKS = Path(__file__).resolve().parents[2] / "examples" / "banks.yaml"


def test_banks_are_kept_apart(lab_built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["demo", str(BANKS), "--no-cost", "--json"])
    answer = json.loads(capsys.readouterr().out)
    wrong = [line for line in answer["attempts"] if not line["as_expected"]]
    assert (code, wrong) == (0, [])
    assert answer["model"] is False, "this must not have run on the model"
    by = {line["by"] for line in answer["attempts"] if line["result"] == "denied"}
    assert by == {"agent", "hypervisor"}
