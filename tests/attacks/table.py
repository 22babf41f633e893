"""The table of attempts at the end of a test run."""

from __future__ import annotations

from collections.abc import Iterable

WIDTHS = (40, 14, 9, 10)


def lines(reports: Iterable[object]) -> list[str]:
    """The table of the attacks in the properties of ``reports``; empty without any."""
    rows = sorted(
        tuple(str(word) for word in value)
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "attack"
    )
    if not rows:
        return []
    made = ["", f"attacks: {len(rows)} tried"]
    for name, by, mode, what, how, evidence in rows:
        head = "".join(w.ljust(n) for w, n in zip((name, by, mode, how), WIDTHS, strict=True))
        made += [f"{head} {what}", f"{'':{sum(WIDTHS)}} {evidence[:120]}"]
    return made
