"""The page about walls: its examples run and print what it shows; its ids are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from shype.analysis.walls.vacuous import FindingId
from shype.cli.main import main
from tests.walkthrough import Command, steps

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/reference/walls.md"


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    ran = 0
    for step in steps(PAGE.read_text()):
        if not isinstance(step, Command):
            (tmp_path / step.name).write_text(step.text)
            continue
        code = main(shlex.split(step.line)[1:])
        printed = iter(capsys.readouterr().out.splitlines())
        assert code == step.code, step.line
        for line in filter(None, step.shown):
            if line.strip() != "...":
                assert any(line.rstrip() == other for other in printed), line
        ran += 1
    assert ran == 7


def test_exactly_the_ids_that_can_occur_are_documented() -> None:
    assert re.findall(r"^\| `(walls\.[a-z-]+)` \|", PAGE.read_text(), re.MULTILINE) == sorted(
        [*FindingId], key=[FindingId.NEVER_STARTS, FindingId.VACUOUS, FindingId.IMPLIED,
                           FindingId.UNUSED_MEMBER].index)
