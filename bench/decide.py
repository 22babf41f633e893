"""`make bench-decide`: how fast the security server decides, beside general policy engines.

All in one process and on one core: CPU time (so that what else runs matters
less), the least of several runs, the garbage collector off while timing. The
engines first answer the same questions; a difference is an error. Ratios are
taken within the run; absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.peers import PEERS, Peer, Question, facts, version
from bench.shapes import SHAPES, levels, questions
from shype.cli import output
from shype.decision.operation import Flow, Operation
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

SIZES = (1000, 5000, 20000, 50000)
#: Labels of the policy that all engines get.
PEER_LABELS = 1000
#: Questions given to an engine that takes many in one call.
BATCH = 1000

_EXCHANGES = tuple(op for op in Operation if op.flow is not Flow.POWER)


class Disagreement(AssertionError):
    """Two engines answer the same question differently."""


@dataclass(frozen=True, slots=True)
class Speed:
    """CPU time of one decision in seconds, of one engine used in one way."""

    engine: str
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What a policy of ``labels`` labels in one shape costs: seconds and bytes.

    ``first``: a question about a pair for the first time; ``again``: repeated;
    ``many``: one of an array.  ``memory`` is that of the server, beyond the
    policy; ``batch_memory`` what arrays need in addition.
    """

    shape: str
    labels: int
    classes: int
    build: float
    memory: int
    first: float
    again: float
    batch_build: float
    batch_memory: int
    many: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way of using one engine: ``action`` makes ``count`` decisions."""

    engine: str
    how: str
    action: Callable[[], object]
    count: int


def race(ways: Sequence[Way], runs: int) -> list[Speed]:
    """The least CPU time of each; they take turns, so that a slow minute slows all of them."""
    rounds = [[least(1, way.action) for way in ways] for _ in range(runs)]
    return [
        Speed(way.engine, way.how, min(times) / way.count)
        for way, times in zip(ways, zip(*rounds, strict=True), strict=True)
    ]


def least(runs: int, action: Callable[[], object]) -> float:
    """The least CPU time of several runs, in seconds."""
    best = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(runs):
            begin = time.process_time()
            action()
            best = min(best, time.process_time() - begin)
    finally:
        gc.enable()
    return best


def against_peers(labels: int, count: int, runs: int) -> list[Speed]:
    """All engines on one policy (`shapes.levels`), ``count`` questions. Raises Disagreement."""
    policy = levels(labels)
    server = SecurityServer(policy)
    chance = random.Random(2)
    names = [label.name for label in policy.guests]
    asked = [(names[s], names[o], chance.choice(_EXCHANGES)) for s, o in questions(policy, count)]
    expected = [server.decide(*question).permitted for question in asked]
    if len({*expected}) < 2:
        raise ValueError("too few questions: all are answered alike")
    ways = _shype(server, asked, expected, runs)
    known, plain = facts(policy), [(str(s), str(o), str(op)) for s, o, op in asked]
    for make in PEERS:
        if version(make.name) is None:
            output.note(f"{make.name} is not installed: pip install 'shype[bench]'")
            continue
        ways += _peer(make(known), plain, expected)
    return race(ways, runs)


def _shype(
    server: SecurityServer, asked: Sequence[tuple[LabelName, LabelName, Operation]],
    expected: Sequence[bool], runs: int,
) -> list[Way]:
    decide, permits, count = server.decide, server.permits, len(asked)
    fresh = [SecurityServer(server.policy).decide for _ in range(runs)]

    def first() -> None:
        ask = fresh.pop()
        for subject, object, operation in asked:
            ask(subject, object, operation)

    def again() -> None:
        for subject, object, operation in repeated:
            decide(subject, object, operation)

    def verdicts() -> None:
        for subject, object, operation in repeated:
            permits(subject, object, operation)

    # One pass takes less than a millisecond, too short beside what the peers did to the caches.
    repeated = [*asked] * 20
    many = -(-1_000_000 // count)
    subjects = np.tile(server.indices([s for s, _, _ in asked]), many)
    objects = np.tile(server.indices([o for _, o, _ in asked]), many)
    operations = np.tile([[*Operation].index(op) for _, _, op in asked], many)
    answers = server.decide_many(subjects, objects, operations)
    _compare("shype decide_many", answers[:count].tolist(), expected)
    return [
        Way("shype", "decide, first time", first, count),
        Way("shype", "decide, again", again, len(repeated)),
        Way("shype", "permits, again", verdicts, len(repeated)),
        Way("shype", "decide_many",
            lambda: server.decide_many(subjects, objects, operations), len(subjects)),
    ]


def _peer(peer: Peer, asked: Sequence[Question], expected: Sequence[bool]) -> list[Way]:
    prepared = peer.prepare(asked)
    _compare(peer.name, peer.ask(prepared), expected)
    ways = []
    for size in (1, BATCH) if peer.batches else (len(prepared),):
        parts = [prepared[at:at + size] for at in range(0, len(prepared), size)]

        def action(parts: list[Sequence[object]] = parts) -> None:
            for part in parts:
                peer.ask(part)

        how = f"in batches of {size}" if peer.batches and size > 1 else "one per call"
        ways.append(Way(peer.name, how, action, len(prepared)))
    return ways


def _compare(engine: str, answers: Sequence[bool], expected: Sequence[bool]) -> None:
    wrong = [n for n, pair in enumerate(zip(answers, expected, strict=True)) if pair[0] != pair[1]]
    if wrong:
        raise Disagreement(f"{engine} answers {len(wrong)} questions differently: {wrong[:5]}")


def growth(shape: str, labels: int, runs: int, count: int = 20_000) -> Growth:
    """What one policy costs."""
    policy = SHAPES[shape](labels)
    tracemalloc.start()
    server = SecurityServer(policy)
    memory = tracemalloc.get_traced_memory()[0]
    server.batch  # noqa: B018  made at its first use
    batch_memory = tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    chance = random.Random(3)
    names = [label.name for label in policy.guests]
    asked = [(names[s], names[o], chance.choice(_EXCHANGES)) for s, o in questions(policy, count)]
    fresh = [SecurityServer(policy) for _ in range(2 * runs)]
    build = least(runs, lambda: SecurityServer(policy))
    batch_build = least(runs, lambda: fresh.pop().batch)

    def ask(one: SecurityServer) -> None:
        decide = one.decide
        for subject, object, operation in asked:
            decide(subject, object, operation)

    first = least(runs, lambda: ask(fresh.pop()))
    ask(server)
    again = least(runs, lambda: ask(server))
    rng = np.random.default_rng(4)
    pairs = np.array(questions(policy, 1_000_000 if count > 1000 else count)) + 1  # after dom0
    operations = rng.integers(0, len(Operation), len(pairs))
    subjects, objects = pairs[:, 0].copy(), pairs[:, 1].copy()
    many = least(runs, lambda: server.decide_many(subjects, objects, operations))
    return Growth(
        shape, labels, len(server.classes.rights), build, memory, first / count, again / count,
        batch_build, batch_memory, many / len(pairs),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="LABELS")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--questions", type=int, default=2000, help="given to each engine")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    speeds = against_peers(PEER_LABELS, args.questions, args.runs)
    sizes = []
    for shape in args.shapes:
        for labels in args.sizes:
            output.note(f"{shape}, {labels} labels ...")
            sizes.append(growth(shape, labels, args.runs))
    report(speeds, sizes, as_json=args.json)
    return 0


def report(speeds: Sequence[Speed], sizes: Sequence[Growth], *, as_json: bool) -> None:
    """Tables, or JSON."""
    versions = {make.name: version(make.name) for make in PEERS}
    if as_json:
        print(json.dumps({
            "python": platform.python_version(), "numpy": np.__version__, "peers": versions,
            "speeds": [asdict(speed) for speed in speeds],
            "growth": [asdict(size) for size in sizes],
        }, indent=2))
        return
    one, many = (
        next(s.seconds for s in speeds if (s.engine, s.how) == ("shype", how))
        for how in ("decide, again", "decide_many")
    )
    output.table(
        f"one decision at {PEER_LABELS:,} labels",
        ("ENGINE", "HOW", "microseconds", "to decide", "to decide_many"),
        [(f"{s.engine} {versions.get(s.engine) or ''}".strip(), s.how, f"{s.seconds * 1e6:.3f}",
          f"{s.seconds / one:.1f}", f"{s.seconds / many:,.0f}") for s in speeds],
    )
    output.table(
        "growth",
        ("SHAPE", "labels", "classes", "build ms", "MB", "first us", "again us",
         "arrays: build ms", "MB", "million/s"),
        [(g.shape, f"{g.labels:,}", f"{g.classes:,}", f"{g.build * 1e3:.1f}",
          f"{g.memory / 1e6:.1f}", f"{g.first * 1e6:.2f}", f"{g.again * 1e6:.2f}",
          f"{g.batch_build * 1e3:.0f}", f"{g.batch_memory / 1e6:.1f}", f"{1e-6 / g.many:.0f}")
         for g in sizes],
    )


if __name__ == "__main__":
    sys.exit(main())
