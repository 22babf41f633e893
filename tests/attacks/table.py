"""The matrix of attempts at the end of a test run: what came of each in each mode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.attacks.attack import Mode

NAME, BY, CAME = 32, 14, 25
#: What is left of a line of evidence.
ROOM = 150
LEGEND = ("default: dom0 is trusted with the VMs' memory and with launch windows; locked: every "
          "label is `locked`; manager: that, and a manager domain opens windows.")


class Cell(NamedTuple):
    """What came of an attempt in one mode."""

    came: str
    evidence: str


def lines(reports: Iterable[object]) -> list[str]:
    """The table of the attacks in the properties of ``reports``; empty without any."""
    found: dict[tuple[str, ...], dict[str, Cell]] = defaultdict(dict)
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "attack":
                attack, by, what, mode, came, evidence = (str(word) for word in value)
                found[attack, by, what][mode] = Cell(came, evidence)
    if not found:
        return []
    tried = sum(cell.came != "not tried" for cells in found.values() for cell in cells.values())
    made = ["", f"attacks: {len(found)}, tried {tried} times", LEGEND, "",
            _columns("ATTEMPT", "BY", *(mode.upper() for mode in Mode))]
    for (attack, by, what), cells in sorted(found.items()):
        empty = Cell("-", "")  # not part of this test run
        made.append(_columns(attack, by, *(cells.get(mode, empty).came for mode in Mode)))
        made += [f"    {what}", *(f"    {line}" for line in _evidence(cells))]
    return made


def _columns(name: str, by: str, *modes: str) -> str:
    head = f"{name:{NAME}} {by:{BY}} "
    return (head + " ".join(f"{came:{CAME}}" for came in modes)).rstrip()


def _evidence(cells: Mapping[str, Cell]) -> list[str]:
    """One line for all modes of the same evidence."""
    by_text: dict[str, list[str]] = defaultdict(list)
    for mode in Mode:
        if mode in cells:
            by_text[" ".join(cells[mode].evidence.split())[:ROOM]].append(mode)
    return [f"[{', '.join(modes)}] {text}" for text, modes in by_text.items() if text]
