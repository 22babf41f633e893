"""Records of an audit trail, chosen by filters: `shype audit show` and `export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from shype.host.audit.record import Record


def state_option(command: argparse.ArgumentParser) -> None:
    """Whose trail, and in which form."""
    command.add_argument("--state", type=Path, metavar="DIR", default=Path("/var/lib/shype"),
                         help="the agent's state (default %(default)s)")
    command.add_argument("--json", action="store_true", help="print JSON")


def place_argument(command: argparse.ArgumentParser) -> None:
    """A trail or a copy of one."""
    command.add_argument("directory", nargs="?", type=Path, metavar="DIR",
                         help="a trail, or a copy (default: this host's)")
    state_option(command)


def filters(command: argparse.ArgumentParser) -> None:
    """Which records."""
    command.add_argument("--vm", metavar="NAME", help="about this VM")
    command.add_argument("--label", metavar="LABEL", help="with this label on either side")
    command.add_argument("--kind", metavar="KIND", help="of this kind (launch, disk, denial, ...)")
    command.add_argument("--result", choices=("permitted", "refused", "failed", "done"),
                         help="that ended so")
    command.add_argument("--since", type=_time, metavar="TIME", help="at TIME or later (ISO 8601)")
    command.add_argument("--until", type=_time, metavar="TIME", help="before TIME")


def _time(word: str) -> str:
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no time: 2026-11-28 or 2026-11-28T21:00:00+00:00") from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="microseconds")


def count(word: str) -> int:
    """A number above 0."""
    if not word.isascii() or not word.isdigit() or len(word) > 18 or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0")
    return int(word)


def _place(args: argparse.Namespace) -> Path:
    found: Path = args.directory or args.state / "audit"
    return found


def chosen(args: argparse.Namespace) -> Iterator[Record]:
    """The records that the filters let through."""
    from shype.host.audit.reader import records

    for record in records(_place(args)):
        body = record.body
        kind = str(body.get("kind"))
        labels = (body.get("subject"), body.get("object_label"))
        if (
            (args.vm is None or args.vm in (body.get("vm"), _object(body.get("object"))))
            and (args.label is None or args.label in labels)
            and (args.kind is None or kind == args.kind or kind.startswith(f"{args.kind}."))
            and (args.result is None or args.result == body.get("result"))
            and (args.since is None or str(body.get("time")) >= args.since)
            and (args.until is None or str(body.get("time")) < args.until)
        ):
            yield record


def _object(value: object) -> str | None:
    return value.removeprefix("vm:") if isinstance(value, str) else None


def show(args: argparse.Namespace) -> int:
    """`shype audit show`."""
    from collections import deque

    found = deque(chosen(args), args.last)
    if args.json:
        output.print_json({"records": [
            {**record.body, "hash": record.hash, "mac": record.mac} for record in found]})
        return 0
    output.table("", ("N", "TIME", "KIND", "RESULT", "VM", "LABEL", "OBJECT", "WHY"),
                 [_row(record) for record in found])
    return 0


def _row(record: Record) -> tuple[str, ...]:
    from shype.decision.wording import printable

    body = record.body

    def word(*names: str) -> str:
        found = next((body[name] for name in names if body.get(name)), "-")
        return printable(str(found))[:200]

    what = word("object")
    label = body.get("object_label")
    if label:
        what = f"{what} ({printable(str(label))})"
    why = word("rule", "error", "message")
    return (str(record.seq), word("time")[:19], word("kind"), word("result"), word("vm"),
            word("subject"), what, printable(_detail(body))[:200] if why == "-" else why)


def _detail(body: Mapping[str, Any]) -> str:
    """Why, of what no rule has decided: a verifier's verdict and its reasons, or somebody's words.
    """
    details = body.get("details")
    if not isinstance(details, dict):
        return "-"
    reasons = details.get("reasons")
    words = [str(details[name]) for name in ("verdict", "why") if details.get(name)]
    if isinstance(reasons, list) and reasons:
        words.append(", ".join(map(str, reasons)))
    return ": ".join(words) or "-"


def export(args: argparse.Namespace) -> int:
    """`shype audit export`."""
    import sys

    from shype.host.audit import export as forms

    trail = _trail(args)
    after = _cursor(args.cursor, trail)
    found = [record for record in chosen(args) if record.seq > after]
    if args.to == "stdout":
        for record in found:
            sys.stdout.write(
                record.line if args.format == "jsonl"
                else forms.syslog(record, args.longest) + "\n")
        sys.stdout.flush()
    else:
        to, datagrams = (
            (forms.JOURNALD, [forms.journal(record) for record in found])
            if args.to == "journald"
            else (forms.SYSLOG, [forms.local(record, args.longest) for record in found]))
        output.note(f"{forms.send(to, datagrams)} records sent to {to}")
    if args.cursor is not None and found:
        from shype.base.files import write_atomic

        write_atomic(args.cursor, f"{found[-1].seq} {trail}\n".encode(), 0o600)
    return 0


def _trail(args: argparse.Namespace) -> str:
    """The id of the trail, empty if nothing tells it."""
    from shype.host.audit.reader import stored

    head = stored([_place(args)]).head
    return head.trail if head is not None else ""


def _cursor(file: Path | None, trail: str) -> int:
    """The record up to which this trail was exported; a new trail (`shype audit begin`) counts
    from 1 again."""
    from shype.base.errors import BadInput
    from shype.base.files import read_regular

    if file is None:
        return 0
    try:
        number, _, known = read_regular(file, 100).decode("ascii").strip().partition(" ")
        return int(number) if known in ("", trail) else 0
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise BadInput(
            "audit.cursor", f"{file} holds no number of a record",
            "remove it: all is exported again") from error
