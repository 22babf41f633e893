"""The reference pages say what the compiler does."""

from __future__ import annotations

from pathlib import Path

from shype.compile.flask import reference, rules
from shype.policy.contents import FILES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_encoding_page_is_generated() -> None:
    assert (DOCS / "flask-encoding.md").read_text() == reference.text(), (
        "write shype.compile.flask.reference.text() to docs/reference/flask-encoding.md"
    )


def test_encoding_page_has_every_permission() -> None:
    page = reference.text()
    for rule in (*rules.BOOT, *rules.VM, *rules.CLEANUP, *rules.BUILD, *rules.SERVE):
        assert f"`{' '.join(rule.permissions)}`" in page
        assert rule.reason in page


def test_bundle_page_names_every_file() -> None:
    page = (DOCS / "bundle.md").read_text()
    for name in (*FILES, "manifest.json"):
        assert f"| `{name}` |" in page
