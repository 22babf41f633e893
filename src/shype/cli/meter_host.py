"""`shype meter watch`, `serve`, `head`, `anchor`, `key`, `quotas`, `picture`: the meter at work."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import add_options, open_agent

if TYPE_CHECKING:
    from shype.base.errors import ShypeError
    from shype.meter.anchor import Anchor
    from shype.meter.sampler import Taken

Verb = Callable[[str, str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]

_WATCH = """\
A ledger is begun if there is none. A sample at each interval; what a kill costs
is at most one. The signing key changes every --renew seconds, and the old one
is erased; with --tpm the ledger's end is then anchored in the TPM. It ends with
SIGTERM.

example: shype meter watch --interval 60 --textfile /var/lib/metrics/shype.prom
"""
_SERVE = """\
Answers GET /metrics with the figures of the last sample. Nobody is asked for a
password: listen where only the scraper gets. examples/grafana/usage.json is a
dashboard for it.

example: shype meter serve --listen 127.0.0.1:9713
"""
_HEAD = """\
Note it where this host cannot write: `shype meter verify --at` then finds a
ledger that was cut off or exchanged.

example: shype meter head
"""
_ANCHOR = """\
The ledger's end goes into a counter of the TPM, that nobody can turn back, and
into the audit trail. `shype meter verify --tpm` compares.

example: shype meter anchor
"""
_KEY = """\
rotate: a new key signs from now on, and the old one is erased.
revoke: the same, and on record that somebody else may have had the key since
the record --since; `shype meter verify` says so ever after.

example: shype meter key revoke --since 1200 --why "backup was readable"
"""
_QUOTAS = """\
What the policy's quotas allow, and what VMs take of them now.

example: shype meter quotas
exit codes: 0 ok, 1 more is taken than the policy allows, or a VM is not held to
its share
"""
_PICTURE = "example: shype meter picture --what cpu --by label -o usage.svg"


def add(verb: Verb, place: Path) -> None:
    """Register the verbs; ``place`` is where a host keeps its ledger."""
    watch = verb("watch", "sample at an interval", _WATCH, _watch)
    add_options(watch)
    watch.add_argument("--interval", type=_whole, default=60, metavar="S",
                       help="seconds between samples (default %(default)s)")
    watch.add_argument("--renew", type=_whole, default=3600, metavar="S",
                       help="seconds between changes of the key (default %(default)s)")
    watch.add_argument("--textfile", type=Path, metavar="FILE",
                       help="write metrics there, for node_exporter")
    watch.add_argument("--tpm", action="store_true", help="anchor in this machine's TPM")
    watch.add_argument("--once", action="store_true", help="one sample, and end")
    serve = verb("serve", "a page for Prometheus", _SERVE, _serve)
    _ledger(serve, place)
    serve.add_argument("--listen", default="127.0.0.1:9713", metavar="HOST:PORT",
                       help="where (default %(default)s)")
    head = verb("head", "where the ledger ends", _HEAD, _head)
    _ledger(head, place)
    add_options(verb("anchor", "anchor the ledger's end in the TPM", _ANCHOR, _anchor))
    key = verb("key", "change the signing key", _KEY, _key)
    key.add_argument("action", choices=("rotate", "revoke"), help="what to do")
    key.add_argument("--why", default="no reason given", metavar="TEXT", help="for the record")
    key.add_argument("--since", type=_whole, metavar="SEQ",
                     help="first record that may be somebody else's")
    add_options(key)
    add_options(verb("quotas", "who takes how much of what is allowed", _QUOTAS, _quotas))
    picture = verb("picture", "draw usage over time", _PICTURE, _picture)
    _ledger(picture, place)
    picture.add_argument("--what", choices=("cpu", "memory", "disk", "network"), default="cpu",
                         help="what is drawn (default %(default)s)")
    picture.add_argument("--by", choices=("vm", "label", "coalition"), default="vm",
                         help="one line for each (default %(default)s)")
    picture.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                         help="the SVG file")


def _ledger(command: argparse.ArgumentParser, place: Path) -> None:
    command.add_argument("--ledger", type=Path, default=place, metavar="DIR",
                         help="the ledger's directory (default %(default)s)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _whole(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


@contextlib.contextmanager
def tpm_anchor(wanted: bool) -> Iterator[Anchor | None]:
    """This machine's TPM as an anchor, if it is wanted. Raises Unavailable (``tpm.*``)."""
    if not wanted:
        yield None
        return
    from shype.attest.tpm import Tpm
    from shype.meter.tpm_anchor import TpmAnchor

    with Tpm() as tpm:
        yield TpmAnchor(tpm)


def _watch(args: argparse.Namespace) -> int:
    from shype.cli.meter import ledger_of, source_of
    from shype.host.admission import enforced
    from shype.meter.begin import begin
    from shype.meter.sampler import Opener, Whose
    from shype.meter.watch import Plan, watch

    agent = open_agent(args)
    ledger = ledger_of(agent)
    if not ledger.exists:
        output.note(f"begun, with the key {begin(agent).key.id}")

    def whose() -> Opener:
        nonlocal agent
        if not enforced(agent):  # the policy was updated
            agent = open_agent(args)
        return Whose(agent.policy, agent.manifest)

    with tpm_anchor(args.tpm) as anchor:
        watch(ledger, source_of(args), whose, Plan(args.interval, args.renew, args.textfile),
              lambda what: _tell(what, args), anchor=anchor, go_on=lambda: not args.once)
    return 0


def _tell(what: Taken | ShypeError, args: argparse.Namespace) -> None:
    from shype.base.errors import ShypeError

    if isinstance(what, ShypeError):
        output.note(f"shype: error: {what}")
    elif args.once:
        print(f"record {what.seq}: {len(what.step.accounts)} domains", flush=True)


def _serve(args: argparse.Namespace) -> int:
    from shype.meter.ledger import Ledger
    from shype.meter.serve import server

    with server(Ledger(args.ledger), args.listen) as page:
        output.note(f"http://{args.listen}/metrics")
        page.serve_forever()
    return 0


def _head(args: argparse.Namespace) -> int:
    from shype.meter.anchor import Point
    from shype.meter.ledger import Ledger
    from shype.meter.reader import no_ledger

    head = Ledger(args.ledger).head()
    if head is None:
        raise no_ledger(args.ledger)
    point = Point(head.seq, head.hash)
    if args.json:
        output.print_json({"ledger": head.ledger, "end": str(point)})
    else:
        print(point)
    return 0


def _anchor(args: argparse.Namespace) -> int:
    from shype.cli.meter import ledger_of
    from shype.host.audit.event import Event, Result
    from shype.meter.anchor import anchor

    agent = open_agent(args)
    with tpm_anchor(wanted=True) as where:
        assert where is not None
        point = anchor(ledger_of(agent), where)
    agent.record(Event(kind="meter.anchor", result=Result.DONE, deferrable=True,
                       details={"end": str(point)}))
    if args.json:
        output.print_json({"end": str(point)})
    else:
        print(f"anchored: {point}")
    return 0


def _key(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.cli.meter import ledger_of
    from shype.host.audit.event import Event, Result

    if (args.action == "revoke") != (args.since is not None):
        raise BadInput("meter.since", "--since goes with revoke: from which record on may somebody "
                       "else have had the key?", "--since 1, if you do not know")
    agent = open_agent(args)
    with ledger_of(agent).writer() as writer:
        if args.since is not None and args.since > writer.head.seq:
            raise BadInput("meter.since", f"the ledger has {writer.head.seq} records, and none "
                           f"with the number {args.since}", "--since takes the number of the first "
                           "record that may be somebody else's; 1, if you do not know")
        writer.rotate_key(args.why, {"doubtful_since": args.since} if args.since else {})
        key = writer.key.public.id
    agent.record(Event(kind=f"meter.key-{args.action}", result=Result.DONE, deferrable=True,
                       message=args.why, details={"key": key}))
    if args.json:
        output.print_json({"key": key})
    else:
        print(f"signs from now on: {key}")
    return 0


def _quotas(args: argparse.Namespace) -> int:
    from shype.host import caps, quota
    from shype.host.census import residents
    from shype.policy.quotas import show

    agent = open_agent(args)
    rows, over = [], False
    for taken in quota.taken(agent, residents(agent)):
        for amount, most in taken.quota.most.items():
            used = taken.sum(amount)
            over = over or used > most
            rows.append({"of": taken.whose, "amount": str(amount), "taken": used, "most": most,
                         "words": (show(amount, used), show(amount, most)),
                         "reserved": taken.quota.reserved.get(amount, 0)})
    loose = caps.loose(agent)
    if args.json:
        output.print_json({
            "quotas": [{k: v for k, v in row.items() if k != "words"} for row in rows],
            "loose": [{"vm": one.domain.name, "what": one.what, "now": one.now,
                       "wanted": one.wanted} for one in loose]})
    else:
        output.table("", ["QUOTA OF", "", "TAKEN", "MOST"], [
            [str(row["of"]), str(row["amount"]), *map(str, row["words"])]  # type: ignore[call-overload]
            for row in rows])
        for one in loose:
            print(f"{one.domain.name}: {one.what} at {one.now}, and should be {one.wanted}")
    return 1 if over or loose else 0


def _picture(args: argparse.Namespace) -> int:
    from shype.base.files import write_atomic
    from shype.meter.picture import series, svg
    from shype.meter.report import By, history

    lines = series(history(args.ledger), By(args.by), args.what)
    write_atomic(args.output, svg(lines, args.what).encode())
    if args.json:
        output.print_json({"file": str(args.output), "lines": [line.key for line in lines]})
    else:
        print(f"{args.output}: {len(lines)} lines")
    return 0
