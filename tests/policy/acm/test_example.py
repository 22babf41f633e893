"""The example policy is what the import of its XML writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.policy.acm.importer import import_files

ROOT = Path(__file__).resolve().parents[3]


def test_the_example_is_what_the_import_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    fixtures = Path("tests/fixtures/acm")
    done = import_files([fixtures / "desktop-policy.xml", fixtures / "desktop-labels.xml"])
    assert [f.id for f in done.findings] == ["acm.no-version"]
    assert Path("examples/shype-2005.yaml").read_text() == done.text
