"""The tutorial is followed: here as far as no hypervisor is needed, in tests/lab to its end."""

from __future__ import annotations

from pathlib import Path

from tests.walkthrough import Command, File, follow, steps

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"


def test_the_tutorial_without_its_lab(tmp_path: Path) -> None:
    assert follow(TUTORIAL, tmp_path, lab=False) >= 10


def test_a_page_is_read_as_a_reader_does() -> None:
    page = (
        "```yaml a.yaml\nx: 1\n```\ntext\n"
        "```console lab\n$ one \\\n  two\nout\n(exit code 3)\n$ three\n```\n"
    )
    assert list(steps(page)) == [
        File("a.yaml", "x: 1\n"), Command("one  two", True, ["out"], 3), Command("three", True),
    ]
