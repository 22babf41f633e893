"""`shype flows`: where information can get to, through whom, and by which rule."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.analysis.flows.graph import FlowGraph
    from shype.analysis.flows.report import Route
    from shype.analysis.flows.vertex import Layer
    from shype.cli.types import Commands

#: Rows of a table that are shown; --format json has all.
_ROWS = 60
_LAYERS = ("direct", "transitive", "guard", "shared", "driver", "dom0", "covert")

_EPILOG = """\
A flow is direct if the policy lets information of a VM arrive at another one in
a single step. Others need somebody between. The layer says whom:
  direct      nobody: one step by event channel, grant or Argo
  transitive  VMs that are not trusted
  guard       a guard
  shared      a disk, a bridge or a device that both use
  driver      a driver domain
  dom0        dom0, which reaches everybody
  covert      what no policy mediates: XenStore, grant status bits, caches, ...
Each layer includes those before it. Walls are taken into account: a step needs
both VMs on one host at one time, unless it goes by disk or network; a path does
not, because a VM that goes on running keeps what it has learnt.

Labels, VMs and resources are named as in the policy (a resource as
KIND:PATTERN); a VM stands for its label, and so does `dom0`.

examples:
  shype flows examples/hospital.yaml
  shype flows examples/hospital.yaml --from surgery --to statistics --why
  shype flows examples/banks.yaml --from bank-a-db --to bank-b-db --all
  shype flows examples/classified.yaml --format svg -o flows.svg

exit codes: 0 shown; 1 nothing flows between the two that were named; 2 bad
input; 3 Graphviz is missing (for svg)
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "flows",
        help="show where information can flow, directly and through others",
        description="Show who can send information to whom under a policy, by which mechanism, "
        "through whom, and by which rule.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a policy file, or a bundle")
    command.add_argument("--from", dest="source", metavar="A", help="only what A can send")
    command.add_argument("--to", dest="sink", metavar="B", help="only what B can receive")
    command.add_argument(
        "--via", action="append", metavar="M",
        help="only steps by this mechanism (event, grant, argo, disk, network, pci, ...); "
        "can be repeated",
    )
    command.add_argument(
        "--layer", choices=_LAYERS, default="driver", help="up to this layer (default: driver)"
    )
    command.add_argument("--why", action="store_true", help="give the rule and line of each step")
    command.add_argument(
        "--all", action="store_true", help="all minimal paths, not only the shortest"
    )
    command.add_argument(
        "--limit", type=int, default=20, metavar="N", help="at most N paths (default: 20)"
    )
    command.add_argument(
        "--state", type=Path, action="append", metavar="FILE",
        help="only what runs on a host (JSON); can be repeated, once for each host",
    )
    command.add_argument(
        "--format", choices=("table", "json", "dot", "svg"), default="table",
        help="dot and svg draw the direct flows",
    )
    command.add_argument("--json", action="store_true", help="the same as --format json")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.analysis.flows.graph import FlowGraph
    from shype.analysis.flows.present import present
    from shype.analysis.flows.vertex import Layer
    from shype.analysis.state import read
    from shype.base.errors import BadInput
    from shype.cli.explain import read_policy
    from shype.decision.security_server import SecurityServer

    policy = read_policy(args.file)
    state = None if args.state is None else present(policy, *map(read, args.state))
    graph = FlowGraph(SecurityServer(policy, today=date.today()), present=state)
    layer = next(layer for layer in Layer if layer.shown == args.layer)
    _check_mechanisms(args.via)
    if args.limit < 1:
        raise BadInput("flow.limit", f"{args.limit} paths cannot be shown", "give a number from 1")
    args.source, args.sink = (
        None if word is None else _named(graph, word) for word in (args.source, args.sink)
    )
    _check_options(args)
    form = "json" if args.json else args.format
    if form in ("dot", "svg"):
        return _draw(graph, layer, form, args.output)
    if args.output is not None:
        raise BadInput("flow.output", "-o is for pictures", "use a pipe, or --format svg or dot")
    if args.source is not None and args.sink is not None:
        return _routes(args, graph, layer, form)
    return _pairs(args, graph, layer, form)


def _named(graph: FlowGraph, word: str) -> str:
    """The label or resource of the graph that ``word`` names; a VM stands for its label."""
    from shype.decision.party import resolve
    from shype.policy.model import ResourceKind

    if word not in graph.of and word.partition(":")[0] not in {*ResourceKind}:
        word = resolve(graph.server.policy, word).label
    graph.find(word)
    return word


def _check_options(args: argparse.Namespace) -> None:
    """Options that would change nothing are refused: the answer would be to another question."""
    from shype.base.errors import BadInput

    drawn = args.format in ("dot", "svg")
    if args.json and args.format != "table" and args.format != "json":
        raise BadInput("flow.options", f"--json and --format {args.format} exclude each other",
                       "leave one of them out")
    if drawn and (args.source or args.sink or args.via or args.why or args.all):
        raise BadInput(
            "flow.options", "a picture shows all direct flows up to --layer: --from, --to, --via, "
            "--why and --all do not narrow it", "leave them out, or use the table or --json",
        )
    if (args.why or args.all) and (args.source is None or args.sink is None):
        raise BadInput("flow.options", "--why and --all are about paths between two names",
                       "give both --from and --to")


def _check_mechanisms(via: list[str] | None) -> None:
    from shype.analysis.flows.covert import CHANNELS
    from shype.analysis.flows.graph import MECHANISMS
    from shype.base.errors import BadInput

    known = [*MECHANISMS, *(channel.id for channel in CHANNELS)]
    for name in via or ():
        if name not in known:
            raise BadInput(
                "flow.mechanism", f"no mechanism is named {name!r}", "one of " + ", ".join(known)
            )


def _draw(graph: FlowGraph, layer: Layer, form: str, path: Path | None) -> int:
    from shype.analysis.flows import picture

    text = picture.dot(graph, layer)
    if form == "svg":
        with output.progress("drawing"):
            text = picture.svg(text)
    if path is None:
        print(text, end="")
    else:
        path.write_text(text)
    return 0


def _routes(args: argparse.Namespace, graph: FlowGraph, layer: Layer, form: str) -> int:
    from shype.analysis.flows.report import routes

    found = routes(
        graph, args.source, args.sink, layer, args.via, minimal=args.all, limit=args.limit + 1
    )
    found, limited = found[:args.limit], len(found) > args.limit
    first = None if args.via else graph.layer(graph.of[args.source], graph.of[args.sink])
    if form == "json":
        output.print_json({
            "policy": graph.server.policy.name, "version": graph.server.policy.version,
            "from": args.source, "to": args.sink, "up_to": layer.shown,
            "layer": None if first is None else first.shown,
            "routes": [route.to_json() for route in found],
            "limited": limited,
        })
        return 0 if found else 1
    if not found:
        by = f" by {', '.join(args.via)}" if args.via else ""
        print(f"nothing of {args.source} gets to {args.sink}{by}, up to layer {layer.shown}")
        if first is not None:
            print(f"from layer {first.shown} on it does: --layer {first.shown}")
        return 1
    for route in found:
        _show(route, why=args.why)
    if limited:
        output.note(f"the first {args.limit} paths; more with --limit")
    return 0


def _show(route: Route, *, why: bool) -> None:
    print(" -> ".join(route.names) + ("" if route.at_once else "   (never all at once)"))
    for ways in route.steps:
        by = ", ".join(f"{w.mechanism} ({', '.join(w.operations)})" if w.operations
                       else w.mechanism for w in ways)
        print(f"  {ways[0].source} -> {ways[0].sink}: {by}")
        for way in ways if why else ():
            print(f"    {way.sentence}")
            for rule in way.decision.rules if way.decision is not None else ():
                print(f"      {rule}")
    if not route.at_once:
        print("  a wall keeps them apart; who goes on running carries it over:")
        for number, state in enumerate(route.states, 1):
            did = [f"stop {', '.join(state.stopped)}"] if state.stopped else []
            did += [f"start {', '.join(state.started)}"] if state.started else []
            print(f"    {number}. {'; '.join(did) or 'go on'}; then run: "
                  f"{', '.join(state.running)}")


def _pairs(args: argparse.Namespace, graph: FlowGraph, layer: Layer, form: str) -> int:
    from shype.analysis.flows.covert import CHANNELS
    from shype.analysis.flows.report import connected, counts, pair
    from shype.analysis.flows.vertex import Layer

    found = connected(
        graph, layer, args.via,
        sources=None if args.source is None else [graph.of[args.source]],
        sinks=None if args.sink is None else [graph.of[args.sink]],
    )
    policy = graph.server.policy
    number = counts(graph, layer, args.via)
    if form == "json":
        output.print_json({
            "policy": policy.name, "version": policy.version, "up_to": layer.shown,
            "pairs": [pair(graph, *one, layer, args.via).to_json(graph) for one in found],
            "labels": {level.shown: count for level, count in number.items()},
            "unmediated": [
                {"id": c.id, "kind": str(c.kind), "sentence": c.sentence, "remedy": c.remedy}
                for c in CHANNELS
            ],
        })
        return 0
    rows: list[tuple[str, ...]] = []
    more = 0
    for one in found:
        if len(rows) == _ROWS:
            more += 1  # only what is shown needs a path
            continue
        shown = pair(graph, *one, layer, args.via)
        names = [graph.vertices[v].shown for v in shown.path]
        through = ", ".join(shown.by)
        if names[1:-1]:
            besides = f"; also directly by {through}" if through else ""
            through = "through " + ", ".join(names[1:-1]) + besides
        rows.append((names[0], names[-1], shown.layer.shown, through))
    if rows:
        output.table("", ["FROM", "TO", "LAYER", "BY"], rows)
    if more:
        output.note(f"{more} more; name one side by --from or --to, or use --json")
    told = [f"{count} {level.shown}" for level, count in number.items() if count]
    if args.source is None and args.sink is None:
        print(f"pairs of labels: {', '.join(told) or 'none'}")
    elif not rows:
        print("nothing flows there")
    alike = [vertex.names for vertex in graph.vertices if len(vertex.names) > 3]
    for group in alike[:_ROWS]:
        print(f"alike: {', '.join(group[:20])}"
              + (f" and {len(group) - 20} more (--json has all)" if len(group) > 20 else ""))
    if layer is Layer.COVERT:
        for channel in CHANNELS:
            print(f"{channel.id} ({channel.kind}): {channel.sentence}")
            print(f"  remedy: {channel.remedy}")
    else:
        print(f"not counted: {len(CHANNELS)} channels that no policy mediates (--layer covert)")
    return 0
