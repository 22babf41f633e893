"""The flow graph as a picture: DOT, and SVG by Graphviz."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

from shype.analysis.flows.graph import MECHANISMS, FlowGraph
from shype.analysis.flows.vertex import PASSED, Layer, Role, Vertex
from shype.base import bits, child
from shype.base.errors import Internal
from shype.policy.mechanism import OPENED, Mechanism
from shype.policy.model import ResourceKind

#: Who reaches each other both ways has one colour; then they begin again.
_FILLS = ("#dbe9f6", "#fde5c8", "#dff0d8", "#eadcf4", "#fbdcdc", "#d9f0ee", "#f5efc4", "#e6e6e6")
_SHAPES = {
    Role.LABEL: 'shape=box, style="rounded,filled"', Role.GUARD: "shape=octagon, style=filled",
    Role.DRIVER: "shape=component, style=filled", Role.DOM0: "shape=box3d, style=filled",
}
_THINGS = {ResourceKind.DISK: "cylinder", ResourceKind.NETWORK: "tab"}
#: Seconds that laying out may take; a picture that needs longer shows nothing to anybody.
_LIMIT = 120.0
#: Pairs that a wall keeps apart are drawn up to so many.
_WALLS = 40


def dot(graph: FlowGraph, layer: Layer = Layer.DRIVER) -> str:
    """What flows directly, of all that counts at ``layer``, as a DOT digraph. Deterministic."""
    policy = graph.server.policy
    drawn = graph.passable(layer) | graph.having(Role.LABEL)
    if layer < Layer.SHARED:
        drawn &= ~graph.having(Role.RESOURCE)
    upwards = policy.levels is not None
    lines = [
        f"digraph {_quoted(policy.name)} {{",
        f'  rankdir={"BT" if upwards else "LR"}; bgcolor="white"; pad=0.3; nodesep=0.35;',
        '  fontname="Helvetica"; fontsize=11; labelloc=b; labeljust=l;',
        f"  label={_quoted(_caption(graph, layer))};",
        '  node [fontname="Helvetica", fontsize=12, color="#5a6b7b", fillcolor="white"];',
        '  edge [fontname="Helvetica", fontsize=9, color="#5a6b7b", fontcolor="#5a6b7b"];',
    ]
    colours = _colours(graph, layer)
    lines += [f"  {line}" for line in _vertices(graph, drawn, colours)]
    lines += [f"  {line}" for line in _ranks(graph, drawn)] if upwards else []
    lines += [f"  {line}" for line in _edges(graph, drawn, layer)]
    lines += [f"  {line}" for line in _walls(graph, drawn)]
    return "\n".join([*lines, "}", ""])


def svg(source: str) -> str:
    """The picture of a DOT graph; a comment at its end has the digest of ``source``.

    Raises Unavailable (``tool.missing``) without Graphviz, and Internal
    (``flow.picture``) if it fails or takes longer than two minutes.
    """
    try:
        done = child.run(["dot", "-Tsvg"], input=source, timeout=_LIMIT)
    except child.ChildFailed as error:
        raise Internal(
            "flow.picture", f"Graphviz drew nothing: {error}",
            "draw less: --layer direct, or --format dot and a layout of your own",
        ) from error
    return done.out + f"<!-- {digest(source)} -->\n"


def digest(source: str) -> str:
    """Of a DOT graph: tells whether a picture is still the one of its policy."""
    return "dot sha256 " + hashlib.sha256(source.encode()).hexdigest()


def _caption(graph: FlowGraph, layer: Layer) -> str:
    policy = graph.server.policy
    lines = [
        f"{policy.name} {policy.version}: information can flow along the arrows "
        "(no words: by every mechanism that is drawn).",
        "One colour: they reach each other, directly or not.",
    ]
    if policy.levels is not None:
        lines.append("Higher levels stand above lower ones.")
    if policy.walls:
        lines.append("Red dashes: a wall keeps them off one host at one time.")
    if layer < Layer.DOM0:
        lines.append(f"dom0 ({policy.host.dom0}) reaches all that it runs and is not drawn.")
    return "".join(line + "\\l" for line in ["", *lines])


def _colours(graph: FlowGraph, layer: Layer) -> Mapping[int, str]:
    """A fill per vertex: that of its component, of those that have several members."""
    ordinary = max(Layer.TRANSITIVE, min(layer, Layer.SHARED))
    parts = [
        part for part in graph.graph(ordinary).components()
        if sum(1 for v in bits.each(part) if graph.vertices[v].labels) > 1
        or any(len(graph.vertices[v].labels) > 1 for v in bits.each(part))
    ]
    return {
        vertex: _FILLS[number % len(_FILLS)]
        for number, part in enumerate(sorted(parts, key=bits.first)) for vertex in bits.each(part)
    }


def _vertices(graph: FlowGraph, drawn: int, colours: Mapping[int, str]) -> Iterator[str]:
    for index in bits.each(drawn):
        vertex = graph.vertices[index]
        if vertex.kind is not None:
            shape = f"shape={_THINGS.get(vertex.kind, 'note')}, style=filled"
        else:
            shape = _SHAPES[vertex.role]
        fill = colours.get(index, "#ffe9b3" if vertex.role is Role.GUARD else "#ffffff")
        yield f'n{index} [label=<{_label(graph, vertex)}>, {shape}, fillcolor="{fill}"];'


def _label(graph: FlowGraph, vertex: Vertex) -> str:
    """The name, and below it in small print what it is and its level."""
    policy = graph.server.policy
    below = []
    if vertex.role not in (Role.LABEL, Role.RESOURCE):
        below.append(str(vertex.role))
    if vertex.labels:
        label = policy.labels[vertex.labels[0]]
        for lattice, held in ((policy.levels, label.level), (policy.integrity, label.integrity)):
            if lattice is not None and held is not None:
                below.append(lattice.show_range(held))
        if graph.present is not None:
            running = [d.vm for n in vertex.labels for d in graph.present.domains.get(n, ())]
            below += running[:6] + [f"and {len(running) - 6} more"] * (len(running) > 6)
    names = "<BR/>".join(f"<B>{_escaped(name)}</B>" for name in vertex.names[:6])
    if len(vertex.names) > 6:
        names += f"<BR/>and {len(vertex.names) - 6} more"
    small = "".join(f'<BR/><FONT POINT-SIZE="9">{_escaped(line)}</FONT>' for line in below)
    return names + small


def _ranks(graph: FlowGraph, drawn: int) -> Iterator[str]:
    """Labels of one sensitivity stand side by side."""
    by_rank: dict[int, list[int]] = defaultdict(list)
    for index in bits.each(drawn):
        vertex = graph.vertices[index]
        level = graph.server.policy.labels[vertex.labels[0]].level if vertex.labels else None
        if level is not None and level.single:
            by_rank[level.low.rank].append(index)
    for rank in sorted(by_rank):
        yield "{ rank=same; " + " ".join(f"n{index};" for index in by_rank[rank]) + " }"


def _edges(graph: FlowGraph, drawn: int, layer: Layer) -> Iterator[str]:
    known: dict[tuple[int, int], tuple[str, ...]] = {}
    rows = graph.rows(layer)
    unmediated = graph.unmediated.items() if layer is Layer.COVERT else ()
    by = [(name, graph.by_mechanism[name]) for name in MECHANISMS if name in graph.by_mechanism]
    if layer < Layer.SHARED:
        by = [(name, row) for name, row in by if name not in _THINGS]
    for source in bits.each(drawn):
        for sink in bits.each(rows[source] & drawn & ~(1 << source)):
            known[source, sink] = tuple(
                name for name, row in (*by, *unmediated) if row[source] >> sink & 1
            )
    every = {name for name, _ in by if name in OPENED}
    for (source, sink), names in known.items():
        both = known.get((sink, source)) == names
        if both and sink < source:
            continue
        ends = graph.vertices[source], graph.vertices[sink]
        style = _style(ends, names)
        if both:
            style.append("dir=both")
        # XenStore is opened by few; dom0 has it with everybody, and that says nothing.
        more = Mechanism.XENSTORE in names and all(end.role is not Role.DOM0 for end in ends)
        if (more or not every <= {*names}) and all(end.labels for end in ends):
            style.append(f"label={_quoted(', '.join(names))}")
        yield f"n{source} -> n{sink} [{', '.join(style)}];"


def _style(ends: tuple[Vertex, Vertex], names: tuple[str, ...]) -> list[str]:
    passed = max(PASSED[end.role] for end in ends)
    if passed is Layer.GUARD:
        return ['color="#c77700"', "penwidth=2"]
    if passed is Layer.DRIVER:
        return ['color="#7a3fa0"']
    if passed is Layer.SHARED or {*names} <= {*_THINGS}:
        return ['color="#2b7bba"', "style=dashed"]
    return ["penwidth=1.2"]


def _walls(graph: FlowGraph, drawn: int) -> Iterator[str]:
    """A red line between those that may not run at once; of very many, none."""
    labels = [index for index in bits.each(drawn) if graph.vertices[index].labels]
    apart = [
        (a, b) for a in labels for b in bits.each(~graph.permitted[a] & drawn) if a < b
    ]
    for a, b in apart if len(apart) <= _WALLS else ():
        yield (f'n{a} -> n{b} [dir=none, constraint=false, style=dashed, color="#c0392b", '
               "penwidth=1.5];")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
