"""Questions about a bundle, which may outlive the guards in it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from shype.cli.main import main
from tests.host.builders import bundle, config
from tests.host.test_guards import GUARDED
from tests.today import set_today


@pytest.mark.parametrize(("day", "code"), [(date(2999, 5, 31), 0), (date(2999, 6, 1), 1)])
def test_a_guard_passes_until_its_last_day(
    day: date, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, vm = str(bundle(tmp_path, GUARDED).path), str(config(tmp_path, "door"))
    set_today(monkeypatch, day)
    for words in (
        ["decide", made, "nurse", "release", "event.send"],
        ["dry-run", made, vm],
        ["explain", made, "nurse", "release"],
    ):
        found = main(words)
        out = capsys.readouterr().out
        assert found == code, (words, out)
        assert ("guard.expired" in out) == bool(code), (words, out)
