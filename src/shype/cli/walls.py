"""`shype walls`: what the Chinese Wall lets run together, and whom it can keep out."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shype.analysis.walls.coexistence import Walls
    from shype.analysis.walls.crossing import Crossings
    from shype.analysis.walls.maximal import MaximalSets
    from shype.analysis.walls.placing import Needed
    from shype.analysis.walls.question import Together
    from shype.analysis.walls.report import Report
    from shype.analysis.walls.sites import Site
    from shype.analysis.walls.starving import Starving
    from shype.cli.types import Commands
    from shype.policy.source import Span

#: Rows of a list that are shown; --json has all.
_ROWS = 20
#: Maximal sets of each part that are shown.
_SETS = 10
#: Classes of labels from which on a report can take more than two seconds.
_LONG = 2_000

_EPILOG = """\
Without a question: the maximal sets of labels that run together on one host,
the hosts needed to run one VM of every label at once, who can be kept out by
whom, and walls that refuse nothing. A label stands for any number of VMs that
carry it; VMs start and stop in any order. Driver domains (host.drivers) are
taken to run always.

--hosts is a number of hosts that are all as the policy says, or a JSON file
that says what may start on each (docs/reference/walls.md). Labels can also be
given as VMs of `vms:`.

examples:
  shype walls examples/banks.yaml
  shype walls examples/banks.yaml --together a-db market b-db --hosts 2
  shype walls examples/banks.yaml --starve a-desk
  shype walls examples/banks.yaml --over-time

exit codes:
  without a question  0 nothing found, 1 findings (listed last)
  --together          0 they can run together, 1 never (or not known)
  --over-time         0 nothing crosses a wall, 1 something does
  --starve            0 it can always start somewhere, 1 it can be kept out
  2 bad input
"""


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "walls",
        help="say which labels can run together, who can be kept out, which wall is useless",
        description="Ask what the walls of a policy permit: over all orders of starts and stops "
        "of VMs on its hosts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "policy", type=Path, metavar="FILE", help="a policy file, or a bundle (FILE.shype)")
    question = command.add_mutually_exclusive_group()
    question.add_argument(
        "--together", nargs="+", metavar="LABEL", help="can VMs of these run at the same time?")
    question.add_argument("--starve", metavar="LABEL", help="can a VM of it be kept out?")
    question.add_argument(
        "--over-time", action="store_true", help="what gets to whom a wall separates, over time?")
    command.add_argument(
        "--hosts", default="1", metavar="N|FILE", help="how many hosts, or which (default: 1)")
    command.add_argument("--json", action="store_true", help="one JSON document")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.analysis.walls.coexistence import Walls
    from shype.analysis.walls.question import together
    from shype.analysis.walls.report import report
    from shype.analysis.walls.starving import starving
    from shype.cli.explain import read_policy
    from shype.decision.party import resolve
    from shype.decision.security_server import SecurityServer

    policy = read_policy(args.policy, today=date.min)
    walls = Walls(SecurityServer(policy))
    sites = _sites(walls, args.hosts)
    if args.together:
        answer = together(walls, sites, [resolve(policy, word).label for word in args.together])
        if args.json:
            output.print_json(answer.to_json())
        else:
            _show_together(answer, sites)
        return 0 if answer.possible else 1
    if args.over_time:
        from shype.analysis.flows.graph import FlowGraph
        from shype.analysis.walls.crossing import crossings

        crossed = crossings(FlowGraph(walls.server))
        if args.json:
            output.print_json(crossed.to_json())
        else:
            _show_crossings(crossed)
        return 1 if crossed.crossed else 0
    if args.starve:
        label = resolve(policy, args.starve).label
        found = starving(walls, sites, label)
        if args.json:
            output.print_json(found.to_json())
        else:
            _show_starving(found)
        return 1 if found.starves else 0
    long = len(walls.names) > _LONG
    with output.progress("looking at all states ...") if long else nullcontext():
        made = report(walls, sites)
    if args.json:
        output.print_json({"policy": policy.name, "version": policy.version, **made.to_json()})
    else:
        print(f"{policy.name} {policy.version}: {_count(len(policy.walls), 'wall')}, "
              f"{_count(len(policy.labels), 'label')} in {_count(made.classes, 'class', 'es')} "
              "(of labels that hold the same members)\n")
        _show(made, walls)
    return 1 if made.findings else 0


def _sites(walls: Walls, word: str) -> tuple[Site, ...]:
    from shype.analysis.walls import sites

    if word.isascii() and word.isdigit():
        return sites.alike(walls, int(word[:9]))
    return sites.read(walls, Path(word))


# -- the report -------------------------------------------------------------------------------


def _show(made: Report, walls: Walls) -> None:
    if made.maximal is not None:
        _show_maximal(made.maximal)
    if made.needed is not None:
        _show_needed(made.needed, len(made.sites), len(made.never))
    if made.starving:
        from shype.analysis.walls.report import separated

        output.table("who can be kept out, while a VM of another label runs", (
            "labels", "kept out by", "competitors", "because the wall separates",
        ), [
            (_names(one.labels), _names(one.found.by) or _names(
                kept.by for kept in one.found.kept if kept.by), str(one.competitors),
             separated(next((k.through for k in one.found.kept if k.through), ())))
            for one in made.starving[:_ROWS]
        ])
        _rest(len(made.starving))
    else:
        print("no label can be kept out by another")
    print()
    for label, why in list(made.never.items())[:_ROWS]:
        if why.by is None:
            print(f"never starts: {label}: {why.sentence}")
    for one in made.left_over[:_ROWS]:
        print(f"left over: a VM that still carries {one.label} (retired) keeps out "
              f"{_names(one.labels)}")
    for finding in made.findings:
        print(f"finding: {finding.sentence} [{finding.id}]\n  fix: {finding.fix}")
        _places(finding.rules)
    count = len(made.findings)
    print("nothing is wrong with the walls" if not count else
          _count(count, "finding"))


def _show_maximal(found: MaximalSets) -> None:
    low, high = found.most
    at_least = "" if found.complete else "at least "
    most = str(low) if low == high else f"between {low} and {high}"
    print("what can run together on one host")
    print(f"  maximal sets of labels: {at_least}{found.count:,}; most labels at once: {most}")
    if found.free:
        print(f"  in every set: {_names(found.free)}")
    for part in found.parts[:_ROWS]:
        print("  and one of:")
        for chosen in part.sets[:_SETS]:
            print(f"    {_names(part.labels(chosen))}")
        _rest(len(part.sets), "    ", most=_SETS)
    _rest(len(found.parts), "  ", "parts")
    print()


def _show_needed(found: Needed, hosts: int, never: int) -> None:
    exact = found.least == found.enough
    whom = "every label that can start" if never else "every label"
    print(f"hosts needed to run one VM of {whom} at the same time: " + (
        str(found.enough) if exact else f"between {found.least} and {found.enough}"))
    if found.enough > 1:
        print(f"  no two of these share a host: {_names(found.apart)}")
        for number, names in enumerate(found.hosts[:_ROWS], 1):
            print(f"  host {number}: {_names(names)}")
        _rest(len(found.hosts), "  ")
    if hosts > 1:
        verdict = "enough" if hosts >= found.enough else (
            "too few" if hosts < found.least else "perhaps enough")
        print(f"  {hosts} hosts are {verdict}")
    print()


# -- the questions ----------------------------------------------------------------------------


def _show_together(answer: Together, sites: Sequence[Site]) -> None:
    names = _names(answer.labels)
    where = "on one host" if len(sites) == 1 else f"on these {len(sites)} hosts"
    if answer.possible:
        print(f"yes: {names} can run at the same time {where}")
        if any(site.always for site in sites):
            print("from the beginning: " + "; ".join(
                f"{site.name}: {_names(site.always)}" for site in sites if site.always))
        output.table("", ("start", "on", "then runs there"), [
            (start.label, start.host, _names(start.running)) for start in answer.trace[:_ROWS]
        ])
        _rest(len(answer.trace))
        return
    print(f"no: {names} never run at the same time {where}" if answer.possible is False else
          f"not known: the search for hosts for {names} was ended")
    for one in answer.obstacles[:_ROWS]:
        print(f"  {one.sentence}")
        _places(one.rules)
    _rest(len(answer.obstacles), "  ")


def _show_starving(found: Starving) -> None:
    if not found.starves:
        print(f"no: {found.label} can always start on {found.free}")
        return
    if found.never:
        print(f"yes: {found.label} never starts")
    else:
        few = "" if found.exact else " (perhaps fewer are enough)"
        print(f"yes: {found.label} cannot start while VMs of {_names(found.by)} run{few}")
        output.table("", ("start", "on"), [
            (kept.by or "", kept.host) for kept in found.kept if kept.never is None
        ][:_ROWS])
    for kept in found.kept[:_ROWS]:
        print(f"{kept.host}: {kept.sentence}")
        rules = kept.never.rules if kept.never is not None else (
            kept.decision.rules if kept.decision is not None else ())
        _places(rules)
    _rest(len(found.kept))


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def _show_crossings(found: Crossings) -> None:
    print(f"{_count(found.separated, 'ordered pair')} of labels never run at once; information "
          f"gets from one to the other over time in {found.crossed:,} of them")
    for one in found.found:
        print(f"\n{_names(one.sources)} -> {_names(one.sinks)} ({one.layer.shown}): "
              f"{' -> '.join(one.route.names)}")
        for state in one.route.states:
            done = [f"{word} {_names(names)}" for word, names in (
                ("stop", state.stopped), ("start", state.started)) if names]
            print(f"  {'; '.join([*done, 'then run'])}: {_names(state.running)}")
    shown = sum(len(one.sources) * len(one.sinks) for one in found.found)
    if shown < found.crossed:
        print(f"\nand {found.crossed - shown:,} more pairs")


def _names(names: Iterable[str]) -> str:
    from shype.decision.wording import listed

    return listed(list(names), "")


def _places(rules: Sequence[Span]) -> None:
    for span in rules[:_ROWS]:
        print(f"  at: {span}")


def _rest(count: int, indent: str = "", what: str = "more", most: int = _ROWS) -> None:
    if count > most:
        print(f"{indent}and {count - most} {what} (--json has all)")
