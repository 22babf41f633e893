"""The flow engine beside SETools' infoflow, on the same binary policy with the same map.

SETools cannot answer anything about a Xen policy without shype's permission
map (`shype permission-map --format setools`). With it, both build a graph of
types from the same rules: an edge per permission that reads or writes, as
SETools defines it, without dom0's types and the hypervisor's, through which
everything reaches everything. Then: is there a path from one type to another?
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.shapes import levels
from shype.analysis.flows.digraph import Digraph
from shype.base import bits, child
from shype.compile.flask import reader, tables
from shype.compile.flask.build import build
from shype.compile.flask.matrix import Names
from shype.compile.flask.permissions import permission_map, setools_format
from shype.compile.flask.reader import Binary

TARGET = "xen-4.17"
#: The least weight that counts: what only leaves a trace does not.
LEAST = 4
_SCRIPT = Path(__file__).with_name("setools_infoflow.py")


class Disagreement(AssertionError):
    """The two say different things about a path."""


@dataclass(frozen=True, slots=True)
class Race:
    """CPU seconds. ``pairs``: of types that could be asked about; ``asked``: that were.

    ``theirs_ask`` is for those asked, ``ours_ask`` (the closure included) for all pairs.
    """

    types: int
    pairs: int
    asked: int
    reachable: int
    theirs_build: float
    theirs_ask: float
    ours_build: float
    ours_ask: float

    @property
    def build(self) -> float:
        """How many times as long SETools takes to build its graph."""
        return self.theirs_build / self.ours_build

    @property
    def ask(self) -> float:
        """How many times as long SETools takes for one pair, among all pairs."""
        return (self.theirs_ask / self.asked) / (self.ours_ask / self.pairs)

    @property
    def all_pairs(self) -> float:
        """Both together for all pairs; SETools' time for them is extrapolated."""
        theirs = self.theirs_build + self.theirs_ask / self.asked * self.pairs
        return theirs / (self.ours_build + self.ours_ask)


def race(labels: int, questions: int) -> Race:
    """Both on a policy of ``labels`` (`shapes.levels`). Raises Disagreement."""
    with tempfile.TemporaryDirectory(prefix="shype-infoflow-") as work:
        folder = Path(work)
        build(levels(labels), target=TARGET, out=folder / "built", validate=False)
        binary_file, map_file = folder / "built" / "policy.bin", folder / "xen.map"
        target = tables.load(TARGET)
        known = permission_map.load(target.version)
        map_file.write_text(setools_format.text(known, target))
        binary = reader.read(binary_file)
        hubs = sorted(name for name in binary.types if not name.startswith("l_"))
        begin = time.process_time()
        names, graph = plain(binary, known, hubs)
        built = time.process_time()
        closure = graph.closure()
        total = sum(row.bit_count() for row in closure)
        answered = time.process_time()
        asked = pairs(binary, hubs, questions)
        ours = [bool(closure[names.index[a]] >> names.index[b] & 1) for a, b in asked]
        file = folder / "asked.json"
        file.write_text(json.dumps({"exclude": hubs, "pairs": asked}))
        done = child.run([
            reader.INTERPRETER, _SCRIPT, binary_file, map_file, file, str(LEAST)])
    theirs = json.loads(done.out)
    compare(asked, ours, theirs["answers"])
    count = len(binary.types) - len(hubs)
    return Race(
        count, count * (count - 1), len(asked), total, theirs["build"], theirs["ask"],
        built - begin, answered - built,
    )


def compare(
    asked: Sequence[tuple[str, str]], ours: Sequence[bool], theirs: Sequence[bool]
) -> None:
    """Raises Disagreement, and ValueError if the questions tell nothing."""
    for pair, mine, other in zip(asked, ours, theirs, strict=True):
        if mine is not other:
            raise Disagreement(f"{' -> '.join(pair)}: shype {mine}, SETools {other}")
    if len({*ours}) < 2:
        raise ValueError("too few questions: all are answered alike")


def plain(
    binary: Binary, known: permission_map.PermissionMap, without: list[str]
) -> tuple[Names, Digraph]:
    """The graph that SETools defines: types, and an edge for what a rule reads or writes."""
    names = Names(binary.types, binary.attributes)
    out = bits.of(names.index[name] for name in without)
    ahead, back = [0] * len(names.types), [0] * len(names.types)
    for rule in binary.allows:
        mapped = (setools_format.mapped(known.entries[rule.cls, n]) for n in rule.permissions)
        found = [letter for letter, weight in mapped if weight >= LEAST]
        targets = names.mask(rule.target) & ~out
        for source in names.members[rule.source]:
            if out >> source & 1:
                continue
            if any(direction in "wb" for direction in found):
                ahead[source] |= targets & ~(1 << source)
            if any(direction in "rb" for direction in found):
                back[source] |= targets & ~(1 << source)
    turned = bits.transposed(back, len(back))
    return names, Digraph([a | b for a, b in zip(ahead, turned, strict=True)])


def pairs(binary: Binary, without: list[str], count: int) -> list[tuple[str, str]]:
    """Pairs of labels' types, half of them close to each other in the policy."""
    chance = random.Random(5)
    names = sorted({*binary.types} - {*without})
    found: list[tuple[str, str]] = []
    while len(found) < count:
        at = chance.randrange(len(names))
        near = min(len(names) - 1, max(0, at + chance.randrange(-8, 9)))
        other = near if len(found) % 2 else chance.randrange(len(names))
        if at != other:
            found.append((names[at], names[other]))
    return found
