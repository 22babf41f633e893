"""Makes docs/reference/findings.md: `python -m tests.policy.findings_page`.

The texts are in findings.toml beside the page; which are warnings, and what is
said, follows from running the first case of each id in bad_policies.py.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from shype.policy.findings import Id
from shype.policy.loader import check_text
from shype.policy.reading import decode
from shype.policy.source import Finding
from tests.policy.bad_policies import CASES
from tests.policy.bad_policy import Bad
from tests.policy.good_policies import TODAY

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/findings.md"
_INTRO = """\
# Findings of `shype check`

Every finding has a place (`file:line:column`, both from 1), a severity, a sentence, a stable id and a fix. Ids never change their meaning. Errors make a policy invalid (exit code 2), warnings do not (exit code 0).

Findings come all at once, in the order of the file. If a section cannot be read, nothing is said about references into it, so that one mistake is one finding. The examples refer to the two policies in [policy-language.md](policy-language.md).

Made by `python -m tests.policy.findings_page`.
"""  # noqa: E501 - a paragraph of the page is one line


def texts() -> list[dict[str, Any]]:
    """The groups of findings.toml, each with its findings."""
    groups = tomllib.loads(PAGE.with_suffix(".toml").read_text(encoding="utf-8"))["group"]
    assert isinstance(groups, list)
    return groups


def _said(bad: Bad) -> str:
    """What is said of ``bad``: really run, so that the page cannot lie."""
    decoded = decode(bad.text.encode(), "p.yaml")
    findings = (
        (decoded,) if isinstance(decoded, Finding) else check_text(decoded, "p.yaml", TODAY)[1]
    )
    found = next(finding for finding in findings if finding.id == bad.id)
    return " ".join(found.message.split()).replace("<", "&lt;")


def page() -> str:
    """The whole page."""
    first: dict[str, Bad] = {}
    for bad in CASES:
        if bad.id != Id.YAML_SYNTAX:  # its sentence depends on the version of libyaml
            first.setdefault(str(bad.id), bad)
    lines = [_INTRO]
    for group in texts():
        lines += [f"## {group['title']}\n", group["text"] + "\n"]
        for finding in group["finding"]:
            shown = first.get(finding["id"])
            warns = "Warning. " if finding.get("warning") or (shown and shown.warning) else ""
            lines += [
                f"### `{finding['id']}`\n",
                f"{warns}{finding['means']}\n",
                f"- Example: {finding['example']}",
                *([f"- It says, for example: {_said(shown)}"] if shown is not None else []),
                f"- Fix: {finding['fix']}\n",
            ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
