"""Makes docs/reference/language-keys.md: `python -m tests.policy.language_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shype.policy import schema

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/language-keys.md"
_INTRO = """\
# Every key of the policy language

What each means is in [policy-language.md](policy-language.md); what can be wrong with each in
[findings.md](findings.md). `NAME` stands for a name of your own, `[]` for an entry of a list.
Made from the JSON Schema (`shype check --schema`) by `python -m tests.policy.language_page`.

| key | required | value | note |
|---|---|---|---|
"""


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found = schema.document()["$defs"][part["$ref"].rsplit("/", 1)[1]]
    assert isinstance(found, dict)
    return found


def rows(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool, str, str]]:
    """Path, whether it is required, title, description: of each key below ``part``."""
    for key, value in part.get("properties", {}).items():
        inner = _resolved(value)
        here = f"{path}.{key}" if path else key
        yield here, key in part.get("required", ()), inner["title"], inner.get("description", "")
        yield from rows(inner, here)
        if isinstance(inner.get("additionalProperties"), dict):
            yield from rows(_resolved(inner["additionalProperties"]), f"{here}.NAME")
        items = _resolved(inner.get("items", {}))
        if "properties" in items:
            yield from rows(items, f"{here}[]")


def page() -> str:
    """The whole page."""
    lines = [
        f"| `{path}` | {'yes' if needed else 'no'} | {title} | {note} |"
        for path, needed, title, note in rows(schema.document())
    ]
    spelled = [
        f"* **{part['title']}**: {part['description']}"
        + (f" At most {part['maxLength']} characters." if "maxLength" in part else "")
        for part in schema.document()["$defs"].values()
        if "pattern" in part or part["title"] == "a level"
    ]
    return _INTRO + "\n".join(lines) + "\n\n## Spelling\n\n" + "\n".join(spelled) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
