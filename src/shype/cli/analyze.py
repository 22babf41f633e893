"""`shype analyze`: where information can flow under any FLASK policy for Xen."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shype.analysis.flows.digraph import Path as Route
    from shype.cli.types import Commands
    from shype.compile.flask.analyze.flows import Flows
    from shype.compile.flask.analyze.paths import Paths
    from shype.compile.flask.analyze.steps import Step

#: Rows of a table that are shown; --json has all.
_ROWS = 60

_EPILOG = """\
POLICY is a binary policy for Xen, anybody's; or its source: one CIL file, or a
policy.conf for checkpolicy; or a bundle that `shype build` made. Binaries of
Xen's own reference policy are called xenpolicy-VERSION.

Information flows where a permission lets it (`shype permission-map`). What
cannot be decided by types counts as possible, and is marked:
  subject to a constraint   users, roles or levels may forbid it
  depends on a boolean      --boolean NAME=on|off decides it; what was made
                            under other values is still there (see --always)
A permission that the map does not know is an error, never "no flow".

Paths do not pass dom0, the hypervisor and the like, which reach everything,
unless --through names them. --trust names more types that are trusted to stop
information.

examples:
  shype analyze xenpolicy-4.17
  shype analyze xenpolicy-4.17 --from isolated_domU_t --to domU_t --why
  shype analyze xenpolicy-4.17 --from isolated_domU_t --via grant --via event
  shype analyze xenpolicy-4.17 --to dom0_t --boolean prot_doms_locked=on

exit codes: 0 shown; 1 nothing flows between the two that were named; 2 bad
input; 3 SETools or the compiler is missing
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "analyze",
        help="show where information can flow under any FLASK policy for Xen",
        description="Read a FLASK policy for Xen and say who can send information to whom, "
        "directly and through others, by which mechanism and by which allow rule.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("policy", type=Path, metavar="POLICY", help="a policy, binary or source")
    command.add_argument("--from", dest="source", metavar="A", help="only what type A can send")
    command.add_argument("--to", dest="sink", metavar="B", help="only what type B can receive")
    command.add_argument(
        "--via", action="append", metavar="M",
        help="only by this mechanism, class or permission (event, memory, hvm, grant.copy, ...); "
        "can be repeated",
    )
    command.add_argument(
        "--boolean", action="append", default=[], metavar="NAME=on|off",
        help="the boolean has this value now; can be repeated",
    )
    command.add_argument(
        "--always", action="store_true",
        help="the booleans given had these values ever since the host booted",
    )
    command.add_argument(
        "--through", action="append", default=[], metavar="TYPE",
        help="paths may pass this type; can be repeated",
    )
    command.add_argument(
        "--trust", action="append", default=[], metavar="TYPE",
        help="paths may not pass this type; can be repeated",
    )
    command.add_argument(
        "--covert", action="store_true", help="count traces too: existence, use, failure"
    )
    command.add_argument("--why", action="store_true", help="give the rules of each step")
    command.add_argument(
        "--all", action="store_true", help="all minimal paths, not only the shortest"
    )
    command.add_argument(
        "--limit", type=int, default=20, metavar="N", help="at most N paths (default: 20)"
    )
    command.add_argument(
        "--xen", metavar="VERSION", help="the release (default: the one that fits best)"
    )
    command.add_argument(
        "--map", type=Path, metavar="FILE", help="more entries for the permission map (TOML)"
    )
    command.add_argument("--json", action="store_true", help="one JSON document, with everything")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.compile.flask.analyze import flows, policy_file
    from shype.compile.flask.analyze.paths import Paths, find
    from shype.compile.flask.permissions import permission_map

    if args.limit < 1:
        raise BadInput(
            "analyze.limit", f"{args.limit} paths cannot be shown", "give a number from 1"
        )
    fixed = dict(_boolean(text) for text in args.boolean)
    more = () if args.map is None else permission_map.read(args.map)
    found = flows.analyse(
        policy_file.read(args.policy), xen=args.xen, more=more, fixed=fixed, via=args.via,
        covert=args.covert, always=args.always,
    )
    paths = Paths(found, args.through, args.trust)
    source, sink = (
        None if name is None else find(found, name) for name in (args.source, args.sink)
    )
    if source is not None and sink is not None:
        return _routes(args, paths, source, sink)
    if args.json:
        _json(paths, source, sink)
    elif source is None and sink is None:
        _summary(paths)
    else:
        _one_side(args, paths, source, sink)
    return 0


def _boolean(text: str) -> tuple[str, bool]:
    from shype.base.errors import BadInput

    name, equals, value = text.partition("=")
    values = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    if not equals or value not in values:
        raise BadInput("analyze.setting", f"{text!r} sets no boolean", "write NAME=on or NAME=off")
    return name, values[value]


def _json(paths: Paths, source: int | None, sink: int | None) -> None:
    from shype.base import bits
    from shype.compile.flask.analyze import report

    flows = paths.flows
    every = (1 << len(flows.names.types)) - 1
    domains = flows.parts.domains
    sources = domains if source is None else 1 << source
    sinks = (domains if source is None else every) if sink is None else 1 << sink
    if source is None and sink is not None:
        sources = every
    types = flows.names.types
    reach = [row & ~flows.parts.channels for row in paths.reach()]
    output.print_json({
        **report.header(paths),
        "direct": [flow.to_json() for flow in report.direct(paths, sources, sinks)],
        "transitive": {
            types[one]: [types[other] for other in bits.each(
                reach[one] & sinks & ~paths.direct[one])]
            for one in bits.each(sources) if reach[one] & sinks & ~paths.direct[one]
        },
    })


def _head(paths: Paths) -> None:
    flows = paths.flows
    print(f"{flows.target.target}: {len(flows.binary.allows)} rules, "
          f"{flows.parts.domains.bit_count()} types that a domain can have\n")


def _remarks(paths: Paths) -> None:
    from shype.compile.flask.analyze import report

    print()
    for text in report.remarks(paths):
        print(f"note: {text}")


def _summary(paths: Paths) -> None:
    from shype.compile.flask.analyze import report

    flows = paths.flows
    among = flows.parts.domains & ~flows.parts.hubs
    _head(paths)
    found = report.counts(paths, among)
    if not found:
        print("nothing flows directly between types of domains (hubs left out)")
        _remarks(paths)
        return
    output.table("direct flows between types of domains (hubs left out)",
                 ("mechanism", "class", "how much", "pairs", "of them always"),
                 [(kind.mechanism, kind.cls, kind.bandwidth, str(pairs), str(sure))
                  for kind, pairs, sure in found])
    print()
    rows = [
        (_names(flows, sources), mechanism, _names(flows, sinks))
        for mechanism in sorted({kind.mechanism for kind, _, _ in found})
        for sources, sinks in report.groups(
            flows.union(lambda kind, m=mechanism: kind.mechanism == m), among)  # type: ignore[misc]
    ]
    output.table("", ("each of", "by", "to each of"), rows[:_ROWS])
    _rest(len(rows))
    reach = paths.reach()
    beyond = [row & ~paths.direct[i] for i, row in enumerate(reach)]
    print()
    rest = report.groups(beyond, among)
    if rest:
        output.table("only through others", ("each of", "reaches each of"), [
            (_names(flows, sources), _names(flows, sinks)) for sources, sinks in rest[:_ROWS]
        ])
        _rest(len(rest))
    else:
        print("through others, nothing reaches more than it does directly")
    _remarks(paths)


def _one_side(
    args: argparse.Namespace, paths: Paths, source: int | None, sink: int | None
) -> None:
    from shype.base import bits
    from shype.compile.flask.analyze import report

    flows = paths.flows
    types = flows.names.types
    every = (1 << len(types)) - 1
    sources, sinks = (every if side is None else 1 << side for side in (source, sink))
    _head(paths)
    rows = []
    for flow in report.direct(paths, sources, sinks):
        other = flow.sink if sink is None else flow.source
        rows += [(other, kind.mechanism, kind.cls, kind.bandwidth, str(doubt) or "always")
                 for kind, doubt in flow.kinds]
    side = f"from {args.source}" if sink is None else f"to {args.sink}"
    if rows:
        output.table(f"{side}, directly", ("to" if sink is None else "from", "by", "class",
                                           "how much", "when"), rows[:_ROWS])
        _rest(len(rows))
    else:
        print(f"nothing flows directly {side}")
    print()
    reach = [row & ~flows.parts.channels for row in paths.reach()]
    if source is not None:
        beyond = [(source, other) for other in bits.each(reach[source] & ~paths.direct[source])]
    else:
        assert sink is not None
        beyond = [(one, sink) for one in range(len(types))
                  if reach[one] >> sink & 1 and not paths.direct[one] >> sink & 1]
    routes = [path for one, other in beyond if (path := paths.shortest(one, other))]
    if routes:
        output.table("only through others", ("from", "to", "for example"), [
            (types[path[0]], types[path[-1]], _spelled(flows, path)) for path in routes[:_ROWS]
        ])
        _rest(len(routes))
    if args.why:
        for flow in report.direct(paths, sources, sinks):
            _why(paths, flows.names.index[flow.source], flows.names.index[flow.sink])
    _remarks(paths)


def _routes(args: argparse.Namespace, paths: Paths, source: int, sink: int) -> int:
    from shype.compile.flask.analyze import report

    flows = paths.flows
    limit = args.limit if args.all else 1
    if args.all:
        found = [*paths.minimal(source, sink, limit)]
    else:
        found = [path] if (path := paths.shortest(source, sink)) else []
    if args.json:
        output.print_json({
            **report.header(paths), "from": args.source, "to": args.sink,
            "paths": [report.path_json(paths, path) for path in found],
        })
        return 0 if found else 1
    _head(paths)
    if not found:
        print(f"nothing flows from {args.source} to {args.sink}")
    shown: set[tuple[int, int]] = set()
    for path in found:
        print(_spelled(flows, path))
        for one, other in pairwise(path):
            if len(path) > 2 or not args.why:
                print(f"  {flows.names.types[one]} -> {flows.names.types[other]}: "
                      f"{_ways(flows, one, other)}")
            if args.why and (one, other) not in shown:
                shown.add((one, other))
                _why(paths, one, other)
    if args.all and len(found) == limit:
        print(f"these are {limit}; there may be more (--limit)")
    _remarks(paths)
    return 0 if found else 1


def _ways(flows: Flows, source: int, sink: int) -> str:
    words = []
    for kind in flows.kinds(source, sink):
        doubt = str(flows.doubt(kind, source, sink))
        words.append(f"{kind.mechanism} ({kind.bandwidth}{', ' + doubt if doubt else ''})")
    return ", ".join(dict.fromkeys(words))


def _why(paths: Paths, source: int, sink: int) -> None:
    from shype.compile.flask.analyze.steps import steps

    for step in steps(paths.flows, source, sink):
        for line in _lines(step):
            print(line)


def _lines(step: Step) -> Iterator[str]:
    when = f" ({step.doubt})" if str(step.doubt) else ""
    yield (f"  {step.source} -> {step.sink} by {step.mechanism}, {step.bandwidth}: "
           f"{step.cls} {' '.join(step.permissions)}{when}")
    if step.how:
        yield f"    {step.how}"
    for rule in step.rules:
        yield f"    {rule}"
    yield f"    why: {step.why}"


def _spelled(flows: Flows, path: Route) -> str:
    return " -> ".join(flows.names.types[i] for i in path)


def _names(flows: Flows, mask: int) -> str:
    from shype.base import bits
    from shype.decision.wording import listed

    return listed([flows.names.types[i] for i in bits.each(mask)])


def _rest(count: int) -> None:
    if count > _ROWS:
        print(f"and {count - _ROWS} more (--json has all)")
