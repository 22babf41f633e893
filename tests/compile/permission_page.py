"""Writes docs/reference/xen-permission-map.md: ``python -m tests.compile.permission_page``."""

from __future__ import annotations

from pathlib import Path

from shype.compile.flask.permissions import page

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/xen-permission-map.md"

if __name__ == "__main__":
    PAGE.write_text(page.text(), encoding="utf-8")
