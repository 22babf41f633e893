"""The flow graph of a policy: who can send information to whom, by what, and through whom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from shype.analysis.flows import covert
from shype.analysis.flows.digraph import Digraph, Path
from shype.analysis.flows.edges import Edges, vertices
from shype.analysis.flows.present import Present
from shype.analysis.flows.vertex import Layer, Role, Vertex
from shype.base import bits
from shype.base.errors import BadInput
from shype.decision.security_server import SecurityServer
from shype.policy.mechanism import Mechanism
from shype.policy.model import ResourceKind

#: What a direct flow uses from each layer on: the hypervisor's own mechanisms, then what VMs
#: reach through a disk, a bridge or a device.
_HYPERVISOR = (
    Mechanism.EVENT, Mechanism.GRANT, Mechanism.ARGO, Mechanism.XENSTORE, Mechanism.FOREIGN,
)
_SHARED = (*dict.fromkeys((Mechanism.DISK, Mechanism.NETWORK, *ResourceKind)),)
#: Every way to name a step's mechanism.
MECHANISMS: tuple[str, ...] = (*map(str, _HYPERVISOR), *map(str, _SHARED))


class FlowGraph:
    """Built once per policy; then asked. ``server`` decides what flows directly.

    Vertices are numbered; ``of`` finds the number of a label, or of a resource
    by ``KIND:PATTERN``. ``present``: only what runs, and dom0, takes part.

    A step between labels by event channel, grant or Argo needs both to run on
    one host, so it is there only if the wall lets them. A path need not be
    possible at one time: a VM that goes on running carries information from
    one state of the host into the next (`walls.trace` shows how).
    """

    def __init__(
        self, server: SecurityServer, *, present: Present | None = None
    ) -> None:
        self.server = server
        self.present = present
        self.vertices: tuple[Vertex, ...] = tuple(vertices(server, present))
        self.of: Mapping[str, int] = {
            name: index for index, vertex in enumerate(self.vertices) for name in vertex.names
        }
        edges = Edges(server, self.vertices, present)
        #: ``by_mechanism[m][x]``: the set (bits) to which x flows directly by m.
        self.by_mechanism: Mapping[str, list[int]] = edges.rows
        #: ``permitted[x]``: the set that the wall lets run beside x; ``beside[x]``: those of
        #: them that do run on one host with x, if that is known.
        self.permitted, self.beside = edges.permitted, edges.beside
        #: ``copied[x]``: the set into whose pages x may copy out of its own (grant.copy_to).
        self.copied = edges.copied
        self._rows: dict[tuple[Layer, frozenset[str] | None], tuple[int, ...]] = {}
        self._passable: dict[Layer, int] = {}
        self._graphs: dict[tuple[Layer, frozenset[str] | None], Digraph] = {}
        self._reach: dict[tuple[Layer, frozenset[str] | None], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.vertices)

    def find(self, name: str) -> int:
        """The number of a label or resource. Raises BadInput ``flow.unknown``."""
        if name in self.of:
            return self.of[name]
        import difflib  # only for a refusal

        close = difflib.get_close_matches(name, list(self.of), n=3)
        raise BadInput(
            "flow.unknown", f"no label and no resource of the policy is named {name!r}",
            f"did you mean {' or '.join(close)}?" if close
            else "name a label, or KIND:PATTERN for an entry of `resources:`",
        )

    def having(self, role: Role) -> int:
        """The set of vertices with that role."""
        return bits.of(i for i, vertex in enumerate(self.vertices) if vertex.role is role)

    # -- edges --------------------------------------------------------------------------------

    def rows(self, layer: Layer, via: Collection[str] | None = None) -> tuple[int, ...]:
        """The direct flows that count at ``layer``, by the mechanisms ``via`` (None: all)."""
        key = layer, None if via is None else frozenset(via)
        if key not in self._rows:
            used: list[Sequence[int]] = [
                self.by_mechanism[n] for n in self.counted(layer) if via is None or n in via
            ]
            if layer is Layer.COVERT:
                used += [rows for id, rows in self.unmediated.items() if via is None or id in via]
            merged = [0] * len(self)
            for rows in used:
                merged = [a | b for a, b in zip(merged, rows, strict=True)]
            self._rows[key] = tuple(merged)
        return self._rows[key]

    @cached_property
    def unmediated(self) -> Mapping[str, Sequence[int]]:
        """The flows by each covert channel, by its id."""
        return {channel.id: channel.rows(self) for channel in covert.CHANNELS}

    def counted(self, layer: Layer) -> tuple[str, ...]:
        """The mechanisms by which something flows directly, of those that count at ``layer``."""
        names = _HYPERVISOR if layer < Layer.SHARED else (*_HYPERVISOR, *_SHARED)
        return tuple(str(name) for name in names if name in self.by_mechanism)

    def passable(self, layer: Layer) -> int:
        """The set of vertices that a path at ``layer`` may pass between its ends."""
        if layer not in self._passable:
            self._passable[layer] = bits.of(
                i for i, vertex in enumerate(self.vertices) if layer.passes(vertex.role)
            )
        return self._passable[layer]

    # -- reachability and paths ---------------------------------------------------------------

    def reach(self, layer: Layer, via: Collection[str] | None = None) -> tuple[int, ...]:
        """Per vertex, all to which its information can get at ``layer``; with DIRECT, one step."""
        key = self._same(layer), None if via is None else frozenset(via)
        if key not in self._reach:
            self._reach[key] = self._reached(key[0], via)
        return self._reach[key]

    def _same(self, layer: Layer) -> Layer:
        """The first layer that is no different, because the policy has nothing to tell them by."""
        roles = {vertex.role for vertex in self.vertices}
        if layer is Layer.DRIVER and Role.DRIVER not in roles:
            layer = Layer.SHARED
        if layer is Layer.SHARED and not any(name in self.by_mechanism for name in _SHARED):
            layer = Layer.GUARD
        if layer is Layer.GUARD and Role.GUARD not in roles:
            layer = Layer.TRANSITIVE
        return layer

    def _reached(self, layer: Layer, via: Collection[str] | None) -> tuple[int, ...]:
        rows = self.rows(layer, via)
        if layer is Layer.DIRECT:
            return rows
        passable = self.passable(layer)
        closure = self.graph(layer, via).closure()
        found = list(closure)
        for index, row in enumerate(rows):
            if not passable >> index & 1:  # an end that no path passes
                found[index] = row
                for step in bits.each(row & passable):
                    found[index] |= closure[step]
        return tuple(found)

    def graph(self, layer: Layer, via: Collection[str] | None = None) -> Digraph:
        """Of vertices that no path may pass at ``layer`` no edge goes out."""
        key = layer, None if via is None else frozenset(via)
        if key not in self._graphs:
            passable = self.passable(layer)
            self._graphs[key] = Digraph([
                row if passable >> index & 1 else 0
                for index, row in enumerate(self.rows(layer, via))
            ])
        return self._graphs[key]

    def layer(self, source: int, sink: int) -> Layer | None:
        """The first layer at which information of ``source`` gets to ``sink``; None: at none."""
        return next(
            (layer for layer in Layer if self.reach(layer)[source] >> sink & 1), None
        )

    def paths(
        self, source: int, sink: int, layer: Layer, via: Collection[str] | None = None, *,
        minimal: bool = False,
    ) -> Iterator[Path]:
        """The shortest paths from ``source`` to ``sink`` at ``layer``, or all minimal ones.

        Minimal: no step leads past a vertex of the path, so none can be left
        out (`Digraph.minimal`; there may be very many).
        """
        rows = self.rows(layer, via)
        if layer is Layer.DIRECT:
            if rows[source] >> sink & 1:
                yield (source, sink)
            return
        made = self.graph(layer, via)
        if not self.passable(layer) >> source & 1:
            # The ends need not be passable: the source sends, and nothing else passes it.
            onward = list(made.rows)
            onward[source] = rows[source]
            made = Digraph(onward)
        if minimal:
            yield from made.minimal(source, sink)
        else:
            yield from made.all_shortest(source, sink)
