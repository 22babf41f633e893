"""`make bench-analysis`: the flow graph of large policies, and beside SETools' infoflow.

Every row is measured in a process of its own: CPU time of each stage, and the
most memory that the process ever had.  The VMs are domains of a state, a
hundred for each label (`shype flows --state`).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context

from bench import infoflow
from bench.shapes import FLOW_SHAPES
from shype.analysis.assertions.prove import prove
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.present import present
from shype.analysis.flows.report import counts
from shype.analysis.flows.vertex import Layer
from shype.analysis.state import Domain, State
from shype.cli import output
from shype.decision.security_server import SecurityServer
from shype.policy.assertions import (
    Arrow,
    Assertion,
    By,
    Exactly,
    LevelsKept,
    Never,
    NoneBoth,
    Selector,
    Terms,
)
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy
from shype.policy.source import Span

SIZES = (1000, 5000, 10000, 20000)
#: VMs of each label.
VMS = 100
#: Labels of the policy that SETools gets, and pairs that it is asked about.
PEER_LABELS, QUESTIONS = 500, 200
NOWHERE = Span("bench", 1, 1)


@dataclass(frozen=True, slots=True)
class Growth:
    """CPU seconds of each stage, and MB (the whole process, Python included).

    ``read``: what the VMs are to the policy; ``direct``: security server and
    graph; ``closure``: who reaches whom on every layer up to DRIVER;
    ``pairs``: all ordered pairs counted, of which ``connected`` are; ``proofs``:
    the assertions of `assertions`, of which ``violated`` are.
    """

    shape: str
    labels: int
    vms: int
    vertices: int
    read: float
    direct: float
    closure: float
    pairs: float
    proofs: float
    connected: int
    violated: int
    megabytes: int

    @property
    def seconds(self) -> float:
        """All stages together."""
        return self.read + self.direct + self.closure + self.pairs + self.proofs


def growth(shape: str, labels: int, vms: int) -> Growth:
    """Measure one policy; ``vms`` VMs for each label."""
    policy = FLOW_SHAPES[shape](labels)
    state = running(policy, vms)
    gc.collect()
    clock = time.process_time
    times = [clock()]
    what_runs = present(policy, state)
    times.append(clock())
    server = SecurityServer(policy)
    graph = FlowGraph(server, present=what_runs)
    times.append(clock())
    for layer in Layer.DRIVER.below:
        graph.reach(layer)
    times.append(clock())
    connected = sum(counts(graph, Layer.DRIVER).values())
    times.append(clock())
    violated = sum(not result.holds for result in prove(server, graph, assertions(policy)))
    times.append(clock())
    read, direct, closure, pairs, proofs = (b - a for a, b in pairwise(times))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Growth(
        shape, labels, len(state.domains), len(graph), read, direct, closure, pairs, proofs,
        connected, violated, most,
    )


def assertions(policy: Policy) -> list[Assertion]:
    """Of each kind that the policy can have, quantified over all labels or a tenth of them."""
    def some(pattern: str) -> Selector:
        return Selector(By.PATTERN, pattern, NOWHERE)

    terms, everyone = Terms(NOWHERE), Selector(By.EVERYONE, "", NOWHERE)
    found: list[Assertion] = [
        Never(Arrow(some("l1*"), some("l2*")), terms),
        Never(Arrow(some("l1*"), some("l2*")), Terms(NOWHERE, via=frozenset({Mechanism.ARGO}))),
        NoneBoth(everyone, (some("l1"), some("l99")), False, terms),
        NoneBoth(everyone, (some("l1"), some("l99")), True, terms),
        Exactly((Arrow(some("l1"), some("l2")),), (some("l1"), some("l2"), some("l3")), terms),
    ]
    if policy.levels is not None:
        found.append(LevelsKept(everyone, False, None, terms))
    return found


def running(policy: Policy, each: int) -> State:
    """``each`` VMs of every label, in no order; of none is known what it uses."""
    labels = [label.name for label in policy.guests for _ in range(each)]
    random.Random(1).shuffle(labels)
    return State(tuple(
        Domain(domid, f"vm{domid}", label) for domid, label in enumerate(labels, 1)
    ))


def alone(shape: str, labels: int, vms: int) -> Growth:
    """As `growth`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(growth, shape, labels, vms).result()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.analysis", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of labels")
    parser.add_argument("--shapes", nargs="*", choices=FLOW_SHAPES, default=[*FLOW_SHAPES])
    parser.add_argument("--vms", type=int, default=VMS, help=f"VMs of each label ({VMS})")
    parser.add_argument(
        "--peer-labels", type=int, default=PEER_LABELS,
        help=f"labels of the policy that SETools gets as well ({PEER_LABELS}; 0: leave it out)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    beside = None
    if args.peer_labels:
        output.note(f"infoflow, {args.peer_labels} labels ...")
        beside = infoflow.race(args.peer_labels, QUESTIONS)
    found = []
    for shape in args.shapes:
        for labels in args.sizes:
            output.note(f"{shape}, {labels} labels ...")
            found.append(alone(shape, labels, args.vms))
    if args.json:
        print(json.dumps({
            "python": platform.python_version(), "growth": [asdict(one) for one in found],
            "infoflow": None if beside is None else asdict(beside),
        }, indent=2))
        return 0
    if beside is not None:
        _beside(beside)
    output.table(
        "flows: CPU seconds",
        ("SHAPE", "labels", "VMs", "vertices", "VMs read", "direct", "closure", "all pairs",
         "assertions", "together", "MB", "connected pairs", "violated"),
        [(g.shape, f"{g.labels:,}", f"{g.vms:,}", f"{g.vertices:,}", f"{g.read:.2f}",
          f"{g.direct:.2f}", f"{g.closure:.2f}", f"{g.pairs:.2f}", f"{g.proofs:.2f}",
          f"{g.seconds:.2f}", f"{g.megabytes:,}", f"{g.connected:,}", f"{g.violated}")
         for g in found],
    )
    return 0


def _beside(race: infoflow.Race) -> None:
    one = 1e6 / race.asked, 1e6 / race.pairs
    output.table(
        f"beside SETools: {race.types} types, {race.asked} questions of "
        f"{race.pairs:,} pairs, the same answers",
        ("", "SETools", "shype", "ratio"),
        [("graph, ms", f"{race.theirs_build * 1e3:.0f}", f"{race.ours_build * 1e3:.1f}",
          f"{race.build:.0f}"),
         ("one pair of all, us", f"{race.theirs_ask * one[0]:.0f}",
          f"{race.ours_ask * one[1]:.4f}", f"{race.ask:,.0f}"),
         ("all pairs, s", f"{race.theirs_build + race.theirs_ask / race.asked * race.pairs:.0f}",
          f"{race.ours_build + race.ours_ask:.3f}", f"{race.all_pairs:,.0f}")],
    )


if __name__ == "__main__":
    sys.exit(main())
