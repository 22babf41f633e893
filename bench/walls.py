"""`python -m bench.walls`: how the questions about walls grow with a policy.

CPU time of one process (`time.process_time`), the least of some runs, and the
largest memory of it. The policies are made here, in shapes that are easy
(every label in one wall) and hard (labels in several walls that cross).
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context

from shype.analysis.walls.coexistence import Walls
from shype.analysis.walls.report import Report, report
from shype.analysis.walls.sites import alike
from shype.cli import output
from shype.decision.security_server import SecurityServer
from shype.policy.model import Coalition, Enforcement, Host, Label, Policy, Wall
from shype.policy.names import CoalitionName, LabelName, MemberName, WallName
from shype.policy.source import Span

SIZES = (100, 1_000, 10_000)
WALLS = 50
#: Members of each wall.
MEMBERS = 10
_NOWHERE = Span("generated.yaml", 1, 1)


def simple(labels: int) -> Policy:
    """Every label holds one member of one of the walls: competitors of one market each."""
    return _policy([[(n % WALLS, n // WALLS % MEMBERS)] for n in range(labels)])


def crossing(labels: int) -> Policy:
    """Every label holds one member of each of three walls, at random."""
    chance = random.Random(labels)
    return _policy([
        [(wall, chance.randrange(MEMBERS)) for wall in chance.sample(range(WALLS), 3)]
        for _ in range(labels)
    ])


def everywhere(labels: int) -> Policy:
    """Every label holds a member of every wall, at random: nearly all exclude each other."""
    chance = random.Random(labels)
    return _policy([
        [(wall, chance.randrange(MEMBERS)) for wall in range(WALLS)] for _ in range(labels)
    ])


def tenants(labels: int) -> Policy:
    """Tenants of ten labels in two walls (a tenant's name, its trade), a tenth without any."""
    return _policy([
        [] if n % 10 == 9 else [(0, n // 10 % MEMBERS), (1 + n // 10 % (WALLS - 1), n % 2)]
        for n in range(labels)
    ])


SHAPES: Mapping[str, Callable[[int], Policy]] = {
    shape.__name__: shape for shape in (simple, tenants, crossing, everywhere)
}


def _policy(held: Sequence[Sequence[tuple[int, int]]]) -> Policy:
    one, dom0 = CoalitionName("c"), LabelName("dom0")
    labels = [Label(dom0, frozenset({one}), frozenset(), _NOWHERE)]
    labels += [
        Label(LabelName(f"l{n}"), frozenset({one}),
              frozenset(MemberName(f"m{w}-{m}") for w, m in members), _NOWHERE)
        for n, members in enumerate(held)
    ]
    walls = [
        Wall(WallName(f"w{w}"), frozenset(MemberName(f"m{w}-{m}") for m in range(MEMBERS)),
             _NOWHERE)
        for w in range(WALLS)
    ]
    return Policy(
        "generated", "1.0", "generated.yaml", {one: Coalition(one, _NOWHERE)},
        {wall.name: wall for wall in walls}, {label.name: label for label in labels},
        Host(dom0, frozenset(), Enforcement.ENFORCING, _NOWHERE),
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of CPU to make the model and to answer all, the memory in MiB, and the answers."""

    model: float
    report: float
    memory: float
    made: Report


def measure(shape: str, labels: int, runs: int = 3) -> Figures:
    """In this process."""
    server = SecurityServer(SHAPES[shape](labels))
    best: list[tuple[float, float]] = []
    for _ in range(runs):
        began = time.process_time()
        walls = Walls(server)
        middle = time.process_time()
        made = report(walls, alike(walls, 1))
        best.append((middle - began, time.process_time() - middle))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Figures(min(a for a, _ in best), min(b for _, b in best), memory, made)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all shapes and sizes, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.walls", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="LABELS")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args(argv)
    rows = []
    for shape in SHAPES:
        for size in args.sizes:
            output.note(f"{shape}, {size} labels ...")
            with get_context("spawn").Pool(1) as pool:
                rows.append(_row(shape, size, pool.apply(measure, (shape, size, args.runs))))
    output.table(f"walls: {WALLS} of {MEMBERS} members each", (
        "shape", "labels", "classes", "model s", "all answers s", "MiB", "maximal sets",
        "most at once", "hosts needed",
    ), rows)
    return 0


def _row(shape: str, size: int, figures: Figures) -> tuple[str, ...]:
    made = figures.made
    assert made.maximal is not None
    assert made.needed is not None
    count = made.maximal.count
    return (
        shape, f"{size:,}", f"{made.classes:,}", f"{figures.model:.2f}", f"{figures.report:.2f}",
        f"{figures.memory:.0f}",
        ("" if made.maximal.complete else "at least ") + (
            f"{count:,}" if count < 10**9 else f"10^{len(str(count)) - 1}"),
        _range(*made.maximal.most), _range(made.needed.least, made.needed.enough),
    )


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


if __name__ == "__main__":
    sys.exit(main())
