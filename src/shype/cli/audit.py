"""`shype audit`: look at the audit trail, verify it, take it elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import audit_records, output
from shype.cli.agent import add_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from shype.cli.types import Commands
    from shype.host.audit.verify import Anchor, Report

_EPILOG = """\
Every decision, change, launch, refusal and denial is one record: a line of
JSON, chained by hashes and sealed with a key that changes with each record.
Take the verification key off the host before anything happens there.

examples:
  shype audit key > /media/usb/host1.key     # printed once, then forgotten
  shype audit show --vm a-db --since 2026-11-01
  shype audit verify --key host1.key COPY    # anywhere, on a copy

docs/how-to/audit.md says how to keep, export and judge a trail.
"""
_SHOW = """\
examples:
  shype audit show -n 20
  shype audit show --vm a-db --result refused --since 2026-11-01
  shype audit show --kind launch --json
--kind launch means launch and all that begins with "launch."; times are UTC.
"""
_VERIFY = """\
Reports every break with file and line: a record that was changed, removed,
reordered or cut off, or was not sealed by the host at its time. Works on a copy
on another machine. Without --key only the chain of hashes is checked, and
whoever may write the files can make that anew. --anchor is what `shype status`
or the system's log showed, --nonce a word with which the copy was asked for: an
old copy put in the place of the whole trail is found by either.

examples:
  shype audit verify
  shype audit verify --key host1.key --anchor 812:9f86d081884c7d65 /srv/host1
exit codes: 0 whole, 1 something is wrong, 2 no trail there or a bad key file
"""
_COPY = """\
For `shype audit verify --key FILE DIR` on another machine, and for backups: the
copy has no sealing key, so who finds it cannot go on where it ends. But it
could be shown to you again later, instead of a longer trail: so ask with a
--nonce, which only who has the present key can answer.

example: shype audit copy /media/usb/host1-2026-11 --nonce 7f3d9c1b20aa
"""
_KEY = """\
The key verifies and does not seal: with it, all records can be checked, and (by
who also has the host) made anew. So it must not be where the trail is. It is
printed once; then the host forgets it.

example: ssh root@host1 shype audit key > host1.key
"""
_BEGIN = """\
For a trail that is broken (`audit.broken`: files were removed, restored from a
backup, or edited) and for a verification key that was lost. Nothing is removed:
the old files are in old-N, and the first record of the new trail names them.

example: shype audit begin --reason "restored from backup after disk failure"
"""


_EXPORT = """\
With --cursor only what is newer than the last time is exported, for a timer:
FILE keeps the number of the last record, and moves on when all is written.

examples:
  shype audit export --result refused > refused.jsonl
  shype audit export --format syslog | socat - TCP:loghost:601
  shype audit export --to journald --cursor /var/lib/shype/journald.cursor
"""
_COLLECT = """\
Denials of the hypervisor, and frames that dom0's bridges refused. Commands that
change something do this at their end, and `shype watch` all the time: Xen keeps
denials in a small ring that is overwritten (conring_size= makes it larger); if
it was, the trail says how much. What is alike is one record with a count; each
VM has records of its own, 20 at once and one more a minute; what is above that
is counted and recorded later.

example: shype audit collect
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "audit", help="show, verify and export the record of what happened", epilog=_EPILOG,
        formatter_class=raw, description="The audit trail of this host, or a copy of one.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, what: str, epilog: str, run: Callable[[argparse.Namespace], int],
             ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".",
                                epilog=epilog, formatter_class=raw)
        made.set_defaults(run=run)
        return made

    show = verb("show", "show records", _SHOW, audit_records.show)
    audit_records.place_argument(show)
    audit_records.filters(show)
    show.add_argument("-n", "--last", type=audit_records.count, metavar="N",
                      help="only the last N of them")
    check = verb("verify", "verify that the trail is whole", _VERIFY, _verify)
    check.add_argument("directory", nargs="*", type=Path, metavar="DIR",
                       help="the trail, and where older files of it are (default: this host's)")
    check.add_argument("--key", type=Path, metavar="FILE", help="the verification key")
    check.add_argument("--anchor", action="append", default=[], type=_anchor, metavar="N:HASH",
                       help="a record that was seen (may be given several times)")
    check.add_argument("--from", dest="begin", type=audit_records.count, default=1, metavar="N",
                       help="the first record that must be there, if older ones are kept elsewhere")
    check.add_argument("--nonce", type=_nonce, metavar="WORD",
                       help="the word with which the copy was asked for (needs --key)")
    audit_records.state_option(check)
    export = verb("export", "write records for other systems", _EXPORT, audit_records.export)
    audit_records.place_argument(export)
    audit_records.filters(export)
    export.add_argument("--format", choices=("jsonl", "syslog"), default="jsonl",
                        help="jsonl: the trail's own lines; syslog: RFC 5424 (default %(default)s)")
    export.add_argument("--to", choices=("stdout", "syslog", "journald"), default="stdout",
                        help="standard output, or the local daemon (default %(default)s)")
    export.add_argument("--longest", type=audit_records.count, default=8000, metavar="BYTES",
                        help="longest message for syslog: of a longer record, its fields are "
                        "shortened and marked (default %(default)s: what rsyslog takes)")
    export.add_argument("--cursor", type=Path, metavar="FILE", help="go on where FILE says")
    gather = verb("collect", "put on record what hypervisor and bridges refused", _COLLECT,
                  _collect)
    add_options(gather)
    rotate = verb("rotate", "close the current file and begin another",
                  "example: shype audit rotate\n", _rotate)
    audit_records.state_option(rotate)
    copy = verb("copy", "copy the trail to a new directory, without its keys", _COPY, _copy)
    copy.add_argument("directory", type=Path, metavar="DIR", help="where; it must not exist")
    copy.add_argument("--nonce", type=_nonce, metavar="WORD",
                      help="a new word of your own: verify then knows that the copy is of now")
    audit_records.state_option(copy)
    key = verb("key", "print the verification key, once, and forget it", _KEY, _key)
    audit_records.state_option(key)
    begin = verb("begin", "set the trail aside and begin a new one", _BEGIN, _begin)
    begin.add_argument("--reason", required=True, metavar="TEXT", help="why; it is recorded")
    audit_records.state_option(begin)


def _anchor(word: str) -> Anchor:
    import re

    from shype.host.audit.verify import Anchor

    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{16,64})", word)
    if found is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no anchor: N:HASH, as `shype status` shows")
    return Anchor(int(found[1]), found[2])


def _nonce(word: str) -> str:
    if not 8 <= len(word) <= 200 or not word.isascii() or not word.isalnum():
        raise argparse.ArgumentTypeError("a nonce is 8 to 200 letters and digits")
    return word


def _verify(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.host.audit import keyfile
    from shype.host.audit.trail import Trail
    from shype.host.audit.verify import verify

    if args.nonce and args.key is None:
        raise BadInput("audit.key", "without --key an answer to a nonce cannot be checked",
                       "give the verification key, too")
    key = None if args.key is None else keyfile.read(args.key)
    places = args.directory or [args.state / "audit"]
    with Trail(places[-1]).reading():
        report = verify(places, key, anchors=args.anchor, begin=args.begin, nonce=args.nonce or "")
    if args.json:
        output.print_json(_report(report))
    else:
        _tell(report)
    return 0 if report.good else 1


def _report(report: Report) -> dict[str, object]:
    return {
        "good": report.good, "trail": report.trail, "records": report.records,
        "first": report.first, "last": report.last, "hash": report.hash, "sealed": report.sealed,
        "problems": [
            {"file": str(p.file), "line": p.line, "what": p.what} for p in report.problems],
        "notes": list(report.notes),
    }


def _tell(report: Report) -> None:
    for problem in report.problems:
        print(problem)
    for note in report.notes:
        output.note(f"note: {note}")
    if not report.sealed:
        output.note("note: without --key the seals were not checked: who may write the files can "
                    "make such a chain anew")
    if report.good:
        print(f"whole: records {report.first} to {report.last} of trail {report.trail}, "
              f"{'chain and seals' if report.sealed else 'chain only'}")
        print(f"anchor {report.last}:{report.hash}")
    else:
        print(f"NOT whole: {len(report.problems)} problems in {report.records} records")


def _collect(args: argparse.Namespace) -> int:
    from shype.cli.agent import open_agent
    from shype.host.gather import gather

    both = gather(open_agent(args))
    done, frames = both.denials, both.frames
    if args.json:
        output.print_json({
            "denials": done.denials, "records": done.records, "waiting": done.waiting,
            "lost": done.lost, "held_back": done.held_back, "frames": {
                "refused": frames.frames, "records": frames.records, "waiting": frames.waiting}})
        return 0
    print(f"{done.denials} new denials, {done.records} records; {frames.frames} new refused "
          f"frames, {frames.records} records")
    if done.waiting or frames.waiting:
        print(f"{done.waiting} denials and {frames.waiting} frames wait: their VMs caused too many "
              "records")
    if done.held_back:
        print(f"{done.held_back} messages, nearly all of them denials, were not printed by the "
              "hypervisor, which limits them")
    if done.lost:
        output.note(f"warning: {done.lost} bytes of the hypervisor's console were overwritten or "
                    "cleared before they could be read, and denials with them (keep `shype watch` "
                    "running; see conring_size= of Xen)")
    return 0


def _rotate(args: argparse.Namespace) -> int:
    from shype.host.audit.trail import Trail

    name = Trail(args.state / "audit").rotate()
    if args.json:
        output.print_json({"closed": name})
    else:
        print(f"closed {name}" if name else "the current file is empty: nothing to close")
    return 0


def _copy(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.host.audit.trail import Trail

    try:
        count = Trail(args.state / "audit").copy(args.directory, args.nonce or "")
    except FileExistsError as error:
        raise BadInput("audit.exists", f"{args.directory} exists and is not overwritten",
                       "name a new directory") from error
    if args.json:
        output.print_json({"files": count, "directory": str(args.directory)})
    else:
        print(f"{count} files copied to {args.directory}")
    return 0


def _key(args: argparse.Namespace) -> int:
    import sys

    from shype.host.audit.trail import Trail

    trail = Trail(args.state / "audit")
    line = trail.take_key().decode()
    if args.json:
        output.print_json({"key": line.strip()})
    else:
        print(line, end="")
    sys.stdout.flush()  # raises if nobody got it: then the host keeps it
    trail.forget_key()
    output.note("the host has forgotten this key: keep it where the trail is not")
    return 0


def _begin(args: argparse.Namespace) -> int:
    from shype.host.audit.trail import Trail

    old = Trail(args.state / "audit").begin(args.reason)
    if args.json:
        output.print_json({"set_aside": str(old) if old else None})
    else:
        print(f"a new trail begins; the old one is in {old}" if old else "a trail begins")
    output.note("take its verification key off the host: shype audit key")
    return 0
