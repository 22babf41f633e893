"""Policies of any size, for showing that the hot path does not depend on it."""

from __future__ import annotations

from pathlib import Path

#: Labels that share one coalition, in a generated policy.
TEAM = 10


def write(path: Path, labels: int) -> Path:
    """A policy of ``labels`` VM labels in coalitions of `TEAM`, a wall between neighbours.
    """
    teams = [f"t{n}" for n in range((labels + TEAM - 1) // TEAM)]
    pairs = list(zip(teams[::2], teams[1::2], strict=False))  # a last odd team stands in no wall
    walls = [f"  w{n}: [{left}, {right}]" for n, (left, right) in enumerate(pairs)]
    named = {team for pair in pairs for team in pair}
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
