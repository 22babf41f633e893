"""The benchmark of attestation runs, and its hosts are trusted. Nothing here looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import attest


def test_a_quote_and_a_round_are_measured(tmp_path: Path) -> None:
    found = attest.one(tmp_path, 40, 2)
    assert found.events == 40
    assert found.milliseconds > 0
    assert attest.fleet(tmp_path, 3, 5).hosts == 3


def test_the_table_has_all_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attest, "LOGS", (3, 10))
    assert attest.main(["--hosts", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["events"] for each in shown["quotes"]] == [3, 10]
