"""docs/reference/decisions.md and the code name the same ids."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from shype.decision.ids import DecisionId
from shype.decision.operation import Operation

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "decisions.md").read_text()
SECTIONS = dict(re.findall(r"^### (\S+)\n\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def ids_in_code() -> set[str]:
    """Every string in the decision package that has the form of an id, operations apart."""
    return {
        node.value
        for module in (ROOT / "src" / "shype" / "decision").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", node.value)
    } - {*Operation}


def test_every_id_is_documented_and_every_documented_id_exists() -> None:
    assert set(SECTIONS) == ids_in_code()
    assert set(DecisionId) <= set(SECTIONS)


def test_every_section_says_what_to_do() -> None:
    for id, text in SECTIONS.items():
        assert "*To do*: " in text, id
        verdict = text.startswith(("**Permit.**", "**Deny.**"))
        assert verdict is (id in set(DecisionId)), id
        if verdict:
            assert "*Rules*: " in text, id
