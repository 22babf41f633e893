"""Makes docs/reference/errors.md from the sources: ``python -m tests.error_index``.

Every place that raises one of shype's errors gives its id as a literal, so the
page can be complete by construction.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
#: Exit code by the class that is raised; others are found by their base class.
CODES = {"BadInput": 2, "Unavailable": 3, "Internal": 3, "ShypeError": 3}
_HEAD = """\
# Errors

An error is not a denial: it means that shype could not answer or could not act, and has
refused. With `--json` it is `{"error": ID, "message": ..., "fix": ...}`. Programs may match
on the id. A policy with errors is `policy.invalid` (exit code 2), and has them under `findings`.
Findings in a policy have [a page of their own](findings.md), and so have
[decisions](decisions.md).

Made from the sources by `python -m tests.error_index`; braces stand for what is filled in.

| id | exit code | what it says | raised in |
|---|---|---|---|
"""


def errors() -> Iterator[tuple[str, int, str, str]]:
    """(id, exit code, message, module), in no order."""
    trees = {path: ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")}
    codes = dict(CODES)
    for _ in range(3):  # classes of classes
        for tree in trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name not in CODES:
                    bases = [b.id for b in node.bases if isinstance(b, ast.Name) and b.id in codes]
                    if bases:
                        codes[node.name] = codes[bases[0]]
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            first = node.args[0]
            if name in codes and isinstance(first, ast.Constant) and isinstance(first.value, str):
                module = str(path.relative_to(ROOT / "src" / "shype").with_suffix(""))
                yield first.value, codes[name], _text(node.args[1]), module


def _text(node: ast.expr) -> str:
    """A message, with {...} where something is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{...}" for part in node.values)
        return "".join(str(part) for part in parts)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "{...}"


def page() -> str:
    """The whole page."""
    rows: dict[str, tuple[int, str, set[str]]] = {}
    for id, code, message, module in sorted(errors()):
        known = rows.setdefault(id, (code, message, set()))
        known[2].add(module)
    lines = []
    for id, (code, message, modules) in sorted(rows.items()):
        text = " ".join(message.split()).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{id}` | {code} | {text} | {', '.join(sorted(modules))} |")
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
