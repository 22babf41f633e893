"""The page about assertions: complete, and its example gives what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from shype.analysis.assertions.ids import AssertId
from shype.cli.main import main
from shype.policy import schema
from shype.policy.assertions import By, Kind

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/assertions.md").read_text()


def test_every_id_and_kind_is_documented() -> None:
    rows = re.findall(r"^\| `(assert\.[a-z-]+)` \|", PAGE, re.MULTILINE)
    assert rows == [str(id) for id in AssertId]
    kinds = re.findall(r"^\| `([a-z-]+)` \| (?:`|a list of `F|labels)", PAGE, re.MULTILINE)
    assert kinds[: len(Kind)] == [str(kind) for kind in Kind]
    assert [AssertId.of(kind) for kind in Kind] == list(AssertId)[:-1]


def test_every_key_is_documented() -> None:
    known = {*schema.document()["$defs"]["assertion"]["properties"]} - {*Kind}
    table = PAGE[PAGE.index("| key | with"): PAGE.index("## Labels")]
    assert {*re.findall(r"`([a-z]+)(?:: dom0)?`(?=[^|]*\| )", table)} >= known
    for word in By:
        assert word is By.PATTERN or f"| `{word}" in PAGE


def test_the_example_says_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    file, *shown = re.findall(r"^```(?:yaml)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "apart.yaml").write_text(file)
    command = re.search(r"^    (shype check .*)$", PAGE, re.MULTILINE)
    assert command is not None
    assert main(shlex.split(command[1])[1:]) == 1
    out = capsys.readouterr().out
    assert len(shown) == 2
    for block in shown:
        assert block in out
