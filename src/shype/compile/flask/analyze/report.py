"""The answers of an analysis, in a form to show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from shype.analysis.flows.digraph import Path
from shype.base import bits
from shype.compile.flask.analyze.flows import Doubt, Kind
from shype.compile.flask.analyze.paths import Paths
from shype.compile.flask.analyze.steps import infix, steps
from shype.compile.flask.analyze.unguarded import ends
from shype.decision.wording import listed


@dataclass(frozen=True, slots=True)
class Direct:
    """Information flows from ``source`` to ``sink`` in one step, by ``kinds`` with their doubts."""

    source: str
    sink: str
    kinds: tuple[tuple[Kind, Doubt], ...]

    def to_json(self) -> dict[str, object]:
        """Shape of a direct flow in ``--json``."""
        return {
            "from": self.source, "to": self.sink,
            "by": [
                {"class": kind.cls, "mechanism": kind.mechanism, "bandwidth": kind.bandwidth,
                 "constraint": doubt.constraint, "boolean": doubt.boolean}
                for kind, doubt in self.kinds
            ],
        }


def direct(paths: Paths, sources: int, sinks: int) -> Iterator[Direct]:
    """Every direct flow from one of ``sources`` to one of ``sinks`` (bits)."""
    flows, types = paths.flows, paths.flows.names.types
    for source in bits.each(sources):
        for sink in bits.each(paths.direct[source] & sinks):
            kinds = flows.kinds(source, sink)
            yield Direct(types[source], types[sink], tuple(
                (kind, flows.doubt(kind, source, sink)) for kind in kinds
            ))


def counts(paths: Paths, among: int) -> list[tuple[Kind, int, int]]:
    """Kind, pairs of types in ``among``, and how many of them whatever else is so."""
    flows = paths.flows
    found = []
    for kind, rows in sorted(flows.rows.items()):
        pairs, sure = (
            sum((some[i] & among).bit_count() for i in bits.each(among))
            for some in (rows, flows.sure(kind))
        )
        if pairs:
            found.append((kind, pairs, sure))
    return found


def groups(rows: list[int], among: int) -> list[tuple[int, int]]:
    """(Sources, sinks) of those in ``among`` that reach something there; equal rows together."""
    by_row: dict[int, int] = {}
    for source in bits.each(among):
        if rows[source] & among:
            by_row[rows[source] & among] = by_row.get(rows[source] & among, 0) | 1 << source
    return [(sources, sinks) for sinks, sources in by_row.items()]


def remarks(paths: Paths) -> list[str]:
    """What a reader of the answers must know."""
    flows, types = paths.flows, paths.flows.names.types
    parts = flows.parts
    found = []
    stops = [types[i] for i in bits.each(paths.stops)]
    if stops:
        found.append(f"no path goes through {', '.join(stops)}, which are trusted to stop "
                     "information or are not one thing (--through TYPE)")
    free = sorted(set(flows.binary.booleans) - set(flows.fixed))
    if flows.rights.conditional and free:
        shown = ", ".join(free[:6]) + (f" and {len(free) - 6} more" if len(free) > 6 else "")
        found.append(f"booleans count both ways: {shown} (--boolean NAME=on|off)")
    if flows.fixed and not flows.always:
        found.append("domains, mappings and channels that were made under other values of the "
                     "booleans given are still there (--always: there were none)")
    if flows.rights.constraints.of:
        found.append("constraints are evaluated for types only: what depends on users, roles or "
                     "levels counts as possible and is marked \"subject to a constraint\"")
    if not flows.wanted.covert:
        found.append("traces do not count, such as that a grant is in use (--covert)")
    found += _copies(paths)
    unused = sorted(types[i] for i in bits.each(_unused(paths)))
    if unused:
        found.append("no rule lets a domain have these types, so what they may do is left out: "
                     + ", ".join(unused[:8])
                     + (f" and {len(unused) - 8} more" if len(unused) > 8 else ""))
    devices = flows.earlier.rows(("resource", "use_noiommu"))
    dma = sorted(types[s] for s, t in devices.items() if t and parts.domains >> s & 1
                 and not parts.hubs >> s & 1)
    if dma:
        found.append("may drive devices without an IOMMU, which can then read and write all "
                     f"memory of the host (resource use_noiommu): {', '.join(dma[:8])}")
    return found


def _copies(paths: Paths) -> list[str]:
    flows, types = paths.flows, paths.flows.names.types
    senders, receivers = ends(flows.rights.rows(("grant", "copy")), flows.parts)
    if flows.wanted.unguarded or not (senders | receivers) & ~flows.parts.hubs:
        return []

    def named(mask: int) -> str:
        return listed([types[i] for i in bits.each(mask & ~flows.parts.hubs)])

    return ["the hypervisor checks neither who issues a grant copy nor whose page a transitive "
            f"grant leads to: with the help of others, any domain can reach {named(receivers)}, "
            f"and be reached from {named(senders)} (--covert counts it)"]


def _unused(paths: Paths) -> int:
    """Types that act in rules, but that no domain can have and that are no domain's view."""
    flows = paths.flows
    subjects = 0
    for (cls, name), rows in flows.earlier.table().items():
        if (cls, name) != ("event", "bind"):
            subjects |= bits.of(s for s, targets in rows.items() if targets)
    return subjects & ~flows.subjects & ~flows.parts.views & ~flows.parts.channels


def path_json(paths: Paths, path: Path) -> dict[str, object]:
    """Shape of a path in ``--json``, with every step's rules."""
    types = paths.flows.names.types
    return {
        "path": [types[i] for i in path],
        "steps": [
            [step.to_json() for step in steps(paths.flows, one, other)]
            for one, other in pairwise(path)
        ],
    }


def header(paths: Paths) -> dict[str, object]:
    """What was analysed, and how."""
    flows = paths.flows
    types = flows.names.types

    def named(mask: int) -> list[str]:
        return [types[i] for i in bits.each(mask)]

    return {
        "target": flows.target.target, "rules": len(flows.binary.allows),
        "domains": named(flows.parts.domains), "channels": named(flows.parts.channels),
        "views": named(flows.parts.views), "stops": named(paths.stops),
        "booleans": {
            name: flows.fixed.get(name) for name in sorted(flows.binary.booleans)
        },
        "conditions": [infix(tokens) for tokens in flows.binary.expressions],
        "covert": flows.wanted.covert, "remarks": remarks(paths),
    }
