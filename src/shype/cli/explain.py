"""`shype explain` and `shype decide`: ask the security server.

Both also run in dom0 on a compiled bundle, with the standard library only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from datetime import date

    from shype.cli.types import Commands
    from shype.decision.decision import Decision
    from shype.decision.operation import Operation
    from shype.decision.party import Party
    from shype.decision.security_server import SecurityServer
    from shype.policy.model import Policy
    from shype.policy.source import Span

_EXPLAIN_EPILOG = """\
A and B are labels, or VMs of the policy's `vms:` (name or UUID), or `dom0`;
label:NAME and vm:NAME say which is meant. The same label twice asks about two
VMs that carry it. Permitted means: dom0 may run both, no wall keeps them from
running on one host together, and information may go from one to the other in
at least one direction. B may also be a resource: disk:NAME, network:NAME,
pci:NAME, irq:N, ioport:RANGE or memory:RANGE; permitted then means that A may
read it, write it or both.

example:
  shype explain examples/banks.yaml a-desk market
  shype explain --json /etc/shype/policy.shype bank-a-db bank-b-db

exit codes: 0 permitted, 1 denied, 2 unknown label or bad policy
"""

_DECIDE_EPILOG = """\
Without A and B, reads one question per line from standard input:
  A B [OPERATION]                     labels, or VMs of the policy's `vms:`
  {"a": "A", "b": "B", "operation": "grant.map_read"}
  {"launch": "A", "running": [{"domid": 1, "vm": "x", "label": "B"}]}
  A KIND:NAME [read|write|read-write]  a resource, such as disk:/dev/vg0/a
  {"use": "A", "kind": "disk", "name": "/dev/vg0/a", "access": "read"}
A does OPERATION to B: event.send (if left out), grant.map_read,
grant.map_write, grant.copy_from, grant.copy_to, argo.send, disk.read,
disk.write, network.send, foreign.map or control.domain. A mechanism alone
(event, grant, argo, disk, network, foreign, control) asks about its fullest
operation.
Empty lines and lines that start with # are passed over. Each answer is written
at once, so a program can keep the command open and ask as it goes.

example:
  shype decide examples/banks.yaml bank-a-desk market-data grant.map_read
  printf 'a-desk market\\na-db b-db\\n' | shype decide --json examples/banks.yaml

exit codes: 0 all permitted, 1 any denied, 2 any question that could not be
answered
"""


def add(commands: Commands) -> None:
    """Register the two commands."""
    explain = commands.add_parser(
        "explain",
        help="may two labels or VMs exchange information and run together, and why",
        description="Say what A and B may do to each other, operation by operation, and whether "
        "they may run on one host, and name the lines of the policy that this follows from.",
        epilog=_EXPLAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_policy(explain)
    explain.add_argument("a", metavar="A", help="a label, or a VM's name or UUID")
    explain.add_argument("b", metavar="B", help="the other one")
    explain.add_argument("--json", action="store_true", help="one JSON document")
    explain.set_defaults(run=_explain)

    decide = commands.add_parser(
        "decide",
        help="answer one question, or many from standard input, one line each",
        usage="%(prog)s [-h] [--json] FILE [A B [OPERATION]]",
        description="Answer questions to the security server, one line each.",
        epilog=_DECIDE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_policy(decide)
    # One argument for each word: argparse fills a list at once, and options could not stand
    # between FILE and the words.
    for word, what in (
        ("a", "a label, or a VM's name or UUID: who acts"), ("b", "the other one"),
        ("operation", "such as grant.map_read, or a mechanism (if left out: event.send)"),
    ):
        decide.add_argument(word, metavar=word.upper(), help=what).required = False
    decide.add_argument("more", nargs="*", default=(), help=argparse.SUPPRESS)
    decide.add_argument("--json", action="store_true", help="one JSON object per line")
    decide.set_defaults(run=_decide)


def _add_policy(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "policy", type=Path, metavar="FILE", help="a policy file, or a bundle (FILE.shype)"
    )


def read_policy(path: Path, today: date | None = None) -> Policy:
    """The policy of a YAML file, or of a bundle: a file, or unpacked in a directory.

    All of a bundle's digests are checked, but not who signed it: a question is no danger.

    ``today`` is the day by which a file's guards have expired (default: the
    present day).  Raises PolicyInvalid, or BadInput ``bundle.missing`` or ``bundle.corrupt``.
    """
    if path.is_dir():
        from shype.policy.manifest import load_bundle

        return load_bundle(path).policy
    if path.suffix == ".shype":
        from shype.policy import signed

        return signed.opened(signed.read(path), path)[0].policy
    from shype.policy.loader import load

    return load(path, today).policy


# -- explain ----------------------------------------------------------------------------------


def _explain(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.decision.operation import Operation
    from shype.decision.party import resolve
    from shype.decision.query import resource
    from shype.decision.security_server import SecurityServer

    policy = read_policy(args.policy)
    server = SecurityServer(policy, today=date.today())
    if resource(args.b) is not None:
        return _explain_resource(server, args.a, args.b, args.json)
    a, b = resolve(policy, args.a), resolve(policy, args.b)
    there = {op: server.decide(a.label, b.label, op) for op in Operation}
    back = {op: server.decide(b.label, a.label, op) for op in Operation}
    together = server.together(a.label, b.label)
    guests = tuple(dict.fromkeys(p.label for p in (a, b) if p.label != policy.host.dom0))
    authorized = {label: server.authorize(label) for label in guests}
    arrows = _arrows(there, back)
    needed = [] if arrows else [there[Operation.EVENT_SEND]]
    obstacles = [
        decision
        for decision in (*authorized.values(), together, *needed) if not decision.permitted
    ]
    verdict = "deny" if obstacles else "permit"
    shared = tuple(dict.fromkeys(name for d in there.values() for name in d.shared))
    if args.json:
        both = ((a, b, there), (b, a, back))
        output.print_json({
            "verdict": verdict,
            "a": a.to_json(), "b": b.to_json(),
            "decisions": [
                {"subject": s.label, "object": o.label, "operation": str(op),
                 **decision.to_json()}
                for s, o, decisions in both for op, decision in decisions.items()
            ],
            "information": arrows,
            "coalitions": [
                {"name": name, "rule": str(policy.coalitions[name].span)} for name in shared
            ],
            "together": together.to_json(),
            "authorized": {label: decision.to_json() for label, decision in authorized.items()},
        })
        return 1 if obstacles else 0
    _show_parties(a, b)
    print()
    output.table("", ("operation", "A on B", "B on A", "because"), [
        (str(op), output.said(there[op].verdict), output.said(back[op].verdict),
         " / ".join(dict.fromkeys((str(there[op].id), str(back[op].id)))))
        for op in Operation
    ])
    print()
    output.table("", ("on this host", "verdict", "because"), [
        ("A and B run together", output.said(together.verdict), together.id),
        *((f"dom0 runs {label}", output.said(d.verdict), d.id)
          for label, d in authorized.items()),
    ])
    print("\nwhy")
    # A reason that holds in both directions is told once, in the direction of the question.
    ways = {decision.id: decision for decision in reversed((*there.values(), *back.values()))}
    places = _places(policy)
    for decision in dict.fromkeys((*reversed(ways.values()), together, *authorized.values())):
        print(f"  {decision.id}: {decision.sentence}")
        for span in decision.rules:
            print(f"    {span}  {places.get(span, '')}".rstrip())
    print(f"\n{output.said(verdict)}: {_conclusion(obstacles, arrows)}")
    return 1 if obstacles else 0


def _explain_resource(server: SecurityServer, label: str, word: str, as_json: bool) -> int:
    """What ``label`` may do with the resource ``word``; 0 if anything."""
    from shype.decision.query import Use, resource
    from shype.decision.resources import Access

    found = resource(word)
    assert found is not None
    decisions = {access: Use(label, *found, access).ask(server) for access in Access}
    permitted = any(decision.permitted for decision in decisions.values())
    if as_json:
        output.print_json({
            "verdict": "permit" if permitted else "deny",
            "decisions": [
                {**Use(label, *found, access).to_json(), **decision.to_json()}
                for access, decision in decisions.items()
            ],
        })
        return 0 if permitted else 1
    output.table("", ("access", "verdict", "because"), [
        (str(access), output.said(decision.verdict), decision.id)
        for access, decision in decisions.items()
    ])
    print("\nwhy")
    places = _places(server.policy)
    for decision in {decision.id: decision for decision in decisions.values()}.values():
        print(f"  {decision.id}: {decision.sentence}")
        for span in decision.rules:
            print(f"    {span}  {places.get(span, '')}".rstrip())
    allowed = [str(access) for access, decision in decisions.items() if decision.permitted]
    print(f"\n{'permitted: ' + ', '.join(allowed) if permitted else 'denied'}")
    return 0 if permitted else 1


def _arrows(
    there: Mapping[Operation, Decision], back: Mapping[Operation, Decision]
) -> list[str]:
    """The directions in which some operation moves information: ``A -> B``, ``B -> A``."""
    from shype.decision.operation import Flow

    moves: set[str] = set()
    for decisions, forth, reverse in ((there, "A -> B", "B -> A"), (back, "B -> A", "A -> B")):
        for op, decision in decisions.items():
            if decision.permitted and op.flow is not Flow.POWER:
                moves.add(reverse if op.from_object else forth)
    return sorted(moves)


def _show_parties(a: Party, b: Party) -> None:
    rows = []
    for letter, party in (("A", a), ("B", b)):
        what = {"label": "a label", "vm": "a VM", "dom0": "the host"}[party.kind]
        rows.append((letter, party.given, what, party.label, str(party.span)))
    output.table("", ("", "name", "is", "label", "written at"), rows)


def _places(policy: Policy) -> dict[Span, str]:
    """What stands where in the policy, in words."""
    return {
        policy.host.span: "host",
        **{lattice.span: name for lattice, name in (
            (policy.levels, "levels"), (policy.integrity, "integrity")) if lattice is not None},
        **{coalition.span: f"coalition {name}" for name, coalition in policy.coalitions.items()},
        **{wall.span: f"wall {name}" for name, wall in policy.walls.items()},
        **{label.span: f"label {name}" for name, label in policy.labels.items()},
        **{label.span: f"resource label {name}" for name, label in policy.resource_labels.items()},
        **{entry.span: f"{entry.kind} {entry.pattern}" for entry in policy.resources},
        **{guard.span: f"guard {name}" for name, guard in policy.guards.items()},
    }


def _conclusion(obstacles: list[Decision], arrows: list[str]) -> str:
    if obstacles:
        return "stopped by " + ", ".join(dict.fromkeys(str(d.id) for d in obstacles))
    if len(arrows) == 2:
        return "they may run together and communicate"
    return f"they may run together, and information may go {arrows[0]} only"


# -- decide -----------------------------------------------------------------------------------


def _decide(args: argparse.Namespace) -> int:
    from datetime import date

    from shype.decision.query import expect_words
    from shype.decision.security_server import SecurityServer

    words = (args.a, args.b, args.operation, *args.more)
    question = tuple(word for word in words if word is not None)
    if question:
        expect_words(len(question))
    server = SecurityServer(read_policy(args.policy), today=date.today())
    if question:
        return _answer(server, question, None, args.json)
    code = 0
    for number, line in _lines():
        code = max(code, _answer(server, line, number, args.json))
    return code


def _lines() -> Iterator[tuple[int, bytes]]:
    """Standard input as it comes, with line numbers, without empty lines and remarks."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if line.strip() and not line.lstrip().startswith(b"#"):
            yield number, line


def _answer(
    server: SecurityServer, question: bytes | tuple[str, ...], number: int | None, as_json: bool
) -> int:
    """Write the answer to one question; 0 permitted, 1 denied, 2 no answer."""
    from shype.base.errors import BadInput, ShypeError
    from shype.decision import query as queries
    from shype.decision.wording import printable

    where = {} if number is None else {"line": number}
    try:
        if isinstance(question, tuple):
            query: queries.Query = queries.from_words(*question)
        else:
            try:
                query = queries.parse(question.decode())
            except UnicodeDecodeError as error:
                raise BadInput("query.bad", "this is no question: not UTF-8", "") from error
        decision = query.ask(server)
    except ShypeError as error:
        if as_json:
            _write(json.dumps({**where, **error.to_json()}, sort_keys=True))
        else:
            line = f"line {number}: " if number is not None else ""
            fix = f" ({error.fix})" if error.fix else ""
            _write(printable(f"error {error.id} {line}{error.message}{fix}"))
        return 2
    if as_json:
        _write(json.dumps({**query.to_json(), **where, **decision.to_json()}, sort_keys=True))
    else:
        words = " ".join(query.words)
        verdict = output.said(decision.verdict)
        _write(printable(f"{verdict} {decision.id} {words}: {decision.sentence}"))
    return 0 if decision.permitted else 1


def _write(line: str) -> None:
    # Flushed at once: the program at the other end waits for this answer before it asks again.
    print(line, flush=True)
