"""`shype meter`: what every VM has used, signed and chained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import meter_host, output
from shype.cli.agent import add_options, open_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from shype.cli.types import Commands
    from shype.host.agent import Agent
    from shype.meter.ledger import Ledger
    from shype.meter.source import Source
    from shype.policy.ed25519 import PublicKey

#: Where a host keeps its ledger.
PLACE = Path("/var/lib/shype/meter")

_EPILOG = """\
example:
  shype meter begin                 # once; keep the key it prints elsewhere
  shype meter watch --interval 60   # or the unit shype-meter.service
  shype meter report --by coalition
  shype meter verify --key first.pub --at 17:0f3a9c...
"""
_BEGIN = """\
Note the key that is printed where this host cannot change it: whoever verifies
the ledger needs it. A ledger that is there and damaged is set aside as it is,
and with --again any other, too; the new one names its end.

example: shype meter begin
exit codes: 0 begun, 2 there is one already, and it is not damaged
"""
_SAMPLE = "example: shype meter sample"
_VERIFY = """\
Needs nothing but the files: copy the directory, and verify on another machine.
--key is the first key, as `shype meter begin` printed it or in its file; --at
names a record that you noted (`shype meter head`).

example: shype meter verify --key first.pub --at 17:0f3a9c2244aa0b1c
exit codes: 0 whole, 1 altered, cut off or exchanged, 2 no ledger
"""
_REPORT = """\
Amounts between two moments, by the host's clock. A VM of several coalitions
counts in each. `shype meter verify` first: a report believes what it reads.

example: shype meter report --by label --from 2026-11-01 --to 2026-12-01 --csv
on another machine: shype meter report --ledger host1 --ledger host2
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "meter", help="what every VM has used", epilog=_EPILOG, formatter_class=raw,
        description="Count what every VM uses, in a signed and chained record.")
    verbs = group.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, what: str, epilog: str,
             run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".",
                                epilog=epilog, formatter_class=raw)
        made.set_defaults(run=run)
        return made

    begin = verb("begin", "begin a ledger", _BEGIN, _begin)
    begin.add_argument("--again", action="store_true",
                       help="set a ledger aside that could be gone on with")
    add_options(begin)
    sample = verb("sample", "record what every VM has used until now", _SAMPLE, _sample)
    add_options(sample)
    verify = verb("verify", "say whether a ledger is whole", _VERIFY, _verify)
    verify.add_argument("--ledger", type=Path, default=PLACE, metavar="DIR",
                        help="the ledger's directory (default %(default)s)")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.add_argument("--key", type=Path, metavar="FILE", help="the first public key")
    verify.add_argument("--at", action="append", default=[], metavar="SEQ:HASH",
                        help="a record that must be in it (again for more)")
    verify.add_argument("--tpm", action="store_true",
                        help="compare with the counter in this machine's TPM")
    verify.add_argument("--revoked", action="append", default=[], metavar="KEYID",
                        help="a key that may have signed nothing (again for more)")
    report = verb("report", "add up what VMs have used", _REPORT, _report)
    report.add_argument("--ledger", type=Path, action="append", metavar="DIR",
                        help=f"a ledger's directory, again for other hosts' (default {PLACE})")
    report.add_argument("--json", action="store_true", help="print JSON")
    report.add_argument("--by", choices=("vm", "label", "coalition", "owner"), default="vm",
                        help="what amounts are added up for (default %(default)s)")
    report.add_argument("--from", dest="begin", type=_moment, metavar="TIME",
                        help="ISO 8601; without a zone it is UTC")
    report.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="the same")
    report.add_argument("--owners", type=Path, metavar="FILE",
                        help="who owns which VM or label: NAME OWNER in each line")
    report.add_argument("--csv", action="store_true", help="print CSV")
    meter_host.add(verb, PLACE)


def _moment(text: str) -> int:
    """Nanoseconds since 1970."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-11-30T12:00") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * 10**9


def ledger_of(agent: Agent) -> Ledger:
    """The ledger of a host."""
    from shype.meter.ledger import Ledger

    return Ledger(agent.state / "meter")


def source_of(args: argparse.Namespace) -> Source:
    """What reads this host."""
    if args.driver == "model":
        from shype.meter.model import ModelSource

        return ModelSource(args.model_file)
    from shype.meter.xen import XenSource

    return XenSource()


def _begin(args: argparse.Namespace) -> int:
    from shype.meter.begin import begin

    begun = begin(open_agent(args), again=args.again)
    if args.json:
        output.print_json(begun.to_json())
        return 0
    if begun.before is not None:
        print(f"the ledger that was there is in {begun.before} now")
    print(f"begun, with the key {begun.key.id}")
    print(f"{begun.file} is what verifies it: keep a copy where this host cannot write")
    return 0


def _sample(args: argparse.Namespace) -> int:
    from shype.meter.sampler import Whose, Why, sample

    agent = open_agent(args)
    taken = sample(ledger_of(agent), source_of(args), Whose(agent.policy, agent.manifest), Why.HAND)
    if args.json:
        output.print_json({
            "seq": taken.seq, "hash": taken.hash, "runs": len(taken.step.accounts),
            "opened": len(taken.step.opened), "ended": len(taken.step.ended)})
    else:
        print(f"record {taken.seq}: {len(taken.step.accounts)} domains "
              f"({taken.seq}:{taken.hash[:16]})")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.meter.anchor import Point
    from shype.meter.verify import verify
    from shype.policy.ed25519 import KeyId

    key = _first_key(args.key) if args.key is not None else None
    try:
        points = [Point.parse(text) for text in args.at]
    except ValueError as error:
        raise BadInput("meter.bad-point", "--at takes the number of a record and at least 16 "
                       "digits of its hash", "as `shype meter head` prints it") from error
    counter = None
    with meter_host.tpm_anchor(args.tpm) as anchor:
        if anchor is not None:
            counter = (anchor.name, anchor.now())
    found = verify(args.ledger, key, points=points, counter=counter,
                   revoked=frozenset(KeyId(text) for text in args.revoked))
    if args.json:
        output.print_json(found.to_json())
        return 0 if found.good else 1
    for problem in found.problems:
        print(problem)
    for what, words in (("gap", found.gaps), ("note", found.notes)):
        for word in words:
            print(f"{what}: {word}")
    verdict = "whole" if found.good else f"NOT whole: {len(found.problems)} problems"
    print(f"ledger {found.ledger}, {found.records} records to {found.end}: {verdict}")
    return 0 if found.good else 1


def _first_key(path: Path) -> PublicKey:
    """Raises BadInput: ``key.missing``, ``key.invalid``."""
    from shype.base.errors import BadInput
    from shype.base.files import read_regular
    from shype.policy.ed25519 import MAX_KEY_FILE, PublicKey

    try:
        return PublicKey.from_pem(read_regular(path, MAX_KEY_FILE), str(path))
    except OSError as error:
        raise BadInput("key.missing", f"the key {path} cannot be read: {error.strerror}",
                       "--key takes the file that `shype meter begin` named, or a copy of it"
                       ) from error


def _report(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.meter.reader import lines
    from shype.meter.report import By, Owners, Period, owners, report
    from shype.meter.usage import NAMES

    if (args.by == "owner") != (args.owners is not None):
        raise BadInput("meter.owners", "--by owner and --owners FILE go together",
                       "the file has a VM or label and its owner in each line")
    known: Owners = {}
    if args.owners is not None:
        try:
            known = owners(args.owners.read_text("utf-8"), str(args.owners))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise BadInput("meter.owners", f"{args.owners} cannot be read: {why}",
                           "the file has a VM or label and its owner in each line") from error
    ledgers = args.ledger or [PLACE]
    if len({next(lines(ledger)).data for ledger in ledgers}) != len(ledgers):
        raise BadInput("meter.same-ledger", "one ledger, or copies of it, would count twice",
                       "name each host's ledger once")
    rows = report(ledgers, By(args.by), Period(args.begin, args.end), known)
    if args.json:
        output.print_json({"by": args.by, "rows": [row.to_json() for row in rows]})
    elif args.csv:
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([args.by, "runs", *NAMES, "ended_unseen", "unmetered"])
        for row in rows:
            writer.writerow([row.key, row.runs, *row.usage.row(), row.unseen, " ".join(row.blind)])
    else:
        output.table("", [args.by.upper(), "RUNS", "CPU s", "MEM GiB h", "DISK IN", "DISK OUT",
                          "NET IN", "NET OUT", "REMARKS"],
                     [[row.key, str(row.runs), f"{row.usage.cpu_ns / 1e9:.1f}",
                       f"{row.usage.memory_bs / 2**30 / 3600:.3f}",
                       *(_size(n) for n in (
                           row.usage.disk_read_bytes, row.usage.disk_written_bytes,
                           row.usage.net_received_bytes, row.usage.net_sent_bytes)),
                       _remarks(row.unseen, row.blind)] for row in rows])
    return 0


def _remarks(unseen: int, blind: tuple[str, ...]) -> str:
    words = [f"{unseen} ended unseen"] if unseen else []
    return ", ".join(words + [f"{name} not metered" for name in blind])


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("", "K", "M", "G"):
        if amount < 1000:
            return f"{amount:.0f}{unit}" if not unit else f"{amount:.1f}{unit}"
        amount /= 1024
    return f"{amount:.1f}T"
