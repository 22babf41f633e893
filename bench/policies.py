"""Policies of any size, for showing that the hot path does not depend on it."""

from __future__ import annotations

from pathlib import Path

#: Labels that share one coalition, in a generated policy.
TEAM = 10


def write(path: Path, labels: int) -> Path:
    """A policy of ``labels`` VM labels in coalitions of `TEAM`, a wall between neighbours.
    """
    teams = [f"t{n}" for n in range((labels + TEAM - 1) // TEAM)]
    walls = [
        f"  w{n}: [t{n}, t{n + 1}]" for n in range(0, len(teams) - 1, 2)
    ]
    named = {team for line in walls for team in line.split("[")[1].rstrip("]").split(", ")}
    lines = [
        "shype: 1", f'policy: {{name: scale-{labels}, version: "1.0"}}',
        f"coalitions: [{', '.join(teams)}]",
        *(["walls:", *walls] if walls else []),
        "labels:", "  manager: {coalitions: all}",
    ]
    for n in range(labels):
        team = teams[n // TEAM]
        wall = f", wall: [{team}]" if team in named else ""
        lines.append(f"  l{n}: {{coalitions: [{team}]{wall}}}")
    lines += ["host: {dom0: manager}"]
    path.write_text("\n".join(lines) + "\n")
    return path
