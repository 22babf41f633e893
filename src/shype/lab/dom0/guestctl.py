"""Drives the probes inside guests, from dom0.  Standard library only.

``python3 -m shype.lab.dom0.guestctl GUEST OPERATION ARGUMENTS...`` asks one
probe for one operation and prints its answer; ``wait``, ``pair`` and
``matrix`` do more.  GUEST is a VM's name or domid; 0 is dom0 itself, whose
probe is started as a child for as long as the command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from shype.base import child
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.lab.dom0.console import (
    Answer,
    AnswerReader,
    Channel,
    Damaged,
    LogChannel,
    PtyChannel,
)
from shype.lab.dom0.experiment import ALL_MECHANISMS, MECHANISMS, experiment

CONSOLE_LOGS = Path("/var/log/xen/console")
PROBE = os.environ.get("SHYPE_PROBE", "/usr/local/bin/probe")
_SAFE = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"


class LocalChannel:
    """The probe as a child of this process: how dom0 takes part in an experiment."""

    def __init__(self, program: str = PROBE) -> None:
        try:
            self._child = subprocess.Popen(
                [program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise Unavailable("probe.missing", f"cannot start {program}: {error}") from error

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(data)

    def receive(self, wait: float) -> bytes:
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], wait)
        return os.read(self._child.stdout.fileno(), 65536) if ready else b""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def request(ident: int, op: str, args: Sequence[str | int]) -> bytes:
    """One request line; arguments are percent-encoded, so they may hold blanks."""
    words = [str(ident), op, *(quote(str(arg), safe=_SAFE) for arg in args)]
    if not all(words):
        raise BadInput("probe.argument", "an operation's argument must not be empty")
    line = " ".join(words).encode() + b"\n"
    if len(line) > 1000:
        raise BadInput("probe.argument", "a request is at most 1,000 bytes long")
    return line


class Guest:
    """A guest with a running probe.

    Raises `Unavailable`: ``guest.silent`` if no answer comes in time,
    ``guest.restarted`` if the probe died and with it the ports and pages that
    it held open, ``guest.gone`` if the domain has no console (any more).
    """

    def __init__(self, domid: int, name: str, channel: Channel, where: str = "its console") -> None:
        self.domid = domid
        self.name = name
        self._channel = channel
        self._where = where
        self._reader = AnswerReader()
        self._next = time.time_ns() // 1000

    def ask(self, op: str, *args: str | int, timeout: float = 20.0, again: float = 3.0) -> Answer:
        """Let the probe do ``op`` and return its answer, within ``timeout`` seconds.

        The request is sent again when its answer arrives damaged, and every
        ``again`` seconds: a probe does nothing twice for the same id.
        """
        self._next += 1
        line = request(self._next, op, args)
        end = time.monotonic() + timeout
        try:
            with self._channel.exclusive():
                while time.monotonic() < end:
                    self._channel.send(line)
                    answer = self._wait(self._next, min(end, time.monotonic() + again))
                    if answer is not None:
                        return answer
        except OSError as error:
            raise Unavailable("guest.gone", f"{self} has no console: {error}") from error
        raise Unavailable(
            "guest.silent", f"{self} gave no answer to {op!r} within {timeout:g} s",
            f"look at {self._where} for what the guest did",
        )

    def _wait(self, ident: int, end: float) -> Answer | None:
        """The answer, or None if it is time (or of use) to ask again."""
        while (left := end - time.monotonic()) > 0:
            for found in self._reader.feed(self._channel.receive(left)):
                if isinstance(found, Damaged):
                    if found.id == ident:
                        return None
                elif found.id == ident:
                    return found
                elif found.op == "hello" and self.domid != 0:
                    raise Unavailable(
                        "guest.restarted", f"the probe of {self} was started anew",
                        "begin the experiment again",
                    )
        return None

    def wait(self, timeout: float) -> Answer:
        """Wait until the probe answers, at most ``timeout`` seconds after now."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                return self.ask("ping", timeout=max(min(left, 5.0), 0.1), again=1.0)
            except Unavailable as error:
                if error.id != "guest.restarted" and left <= 5.0:
                    raise

    def close(self) -> None:
        """Let go of the console."""
        self._channel.close()

    def __str__(self) -> str:
        return f"{self.name} (domain {self.domid})"


def xenstore_read(*paths: str) -> list[str] | None:
    """The values of ``paths``, or None if one of them is missing."""
    done = child.run(["xenstore-read", *paths], check=False, timeout=30)
    return done.out.splitlines() if done.code == 0 else None


def domid_of(guest: str) -> int:
    """The domid of a running VM, by name or domid. Raises BadInput (``guest.unknown``)."""
    if guest.isdigit():
        return int(guest)
    names = domids()
    if guest not in names:
        raise BadInput(
            "guest.unknown", f"no VM named {guest!r} runs", "running: " + ", ".join(names))
    return names[guest]


def domids() -> dict[str, int]:
    """All running VMs by name, with two calls of xenstore's tools if nothing ends meanwhile."""
    listed = child.run(["xenstore-list", "/local/domain"], timeout=30).out.split()
    entries = sorted((entry for entry in listed if entry.isdigit()), key=int)
    names = xenstore_read(*(f"/local/domain/{entry}/name" for entry in entries))
    if names is not None and len(names) == len(entries):
        return dict(zip(names, map(int, entries), strict=True))
    found = {}
    for entry in entries:
        for name in xenstore_read(f"/local/domain/{entry}/name") or []:
            found[name] = int(entry)
    return found


def connect(guest: str, known: Mapping[str, int] | None = None) -> Guest:
    """A connection to the probe of a VM given by name or domid (0 or Domain-0: dom0).

    ``known``: what `domids` said a moment ago.
    """
    domid = known[guest] if known and guest in known else domid_of(guest)
    if domid == 0:
        local = Guest(0, "Domain-0", LocalChannel(), "its standard error")
        local.wait(10)
        return local
    found = xenstore_read(f"/local/domain/{domid}/name", f"/local/domain/{domid}/console/tty")
    if found is None or len(found) != 2:
        raise Unavailable("guest.gone", f"domain {domid} does not run or has no console")
    name, pty = found
    log = CONSOLE_LOGS / f"guest-{name}.log"
    try:
        channel: Channel = LogChannel(Path(pty), log) if log.exists() else PtyChannel(Path(pty))
    except OSError as error:
        raise Unavailable("guest.gone", f"no console of {name}: {error}") from error
    return Guest(domid, name, channel, str(log) if log.exists() else pty)


@contextlib.contextmanager
def connected(guests: Sequence[str]) -> Iterator[list[Guest]]:
    """Connections to several guests, closed at the end."""
    with contextlib.ExitStack() as stack:
        found = []
        known = domids() if len(guests) > 1 else None
        for guest in guests:
            found.append(connect(guest, known))
            stack.callback(found[-1].close)
        yield found


def pairs(guests: Sequence[Guest]) -> list[tuple[Guest, Guest]]:
    """All ordered pairs of different guests."""
    return [(a, b) for a in guests for b in guests if a.domid != b.domid]


def prepare(*_: str) -> None:
    """What can be done once for many commands, before this process is forked for each."""
    _parser()


@cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guestctl", description="Drive the probes inside guests.",
        epilog="example: guestctl pair a-db a-desk --mechanism event; guestctl a-db ping",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    wait = commands.add_parser("wait", help="wait until the guests' probes answer")
    wait.add_argument("guests", nargs="+")
    wait.add_argument("--timeout", type=float, default=60.0, help="seconds for each guest")
    for name, help in (("pair", "what reaches B from A"), ("matrix", "every pair, both ways")):
        tried = commands.add_parser(name, help=help)
        tried.add_argument("guests", nargs=2 if name == "pair" else "+")
        tried.add_argument("--mechanism", action="append", choices=ALL_MECHANISMS)
        if name == "matrix":
            tried.add_argument("--pair", nargs=2, action="append", metavar=("A", "B"),
                               help="only what reaches B from A; may be given several times")
            tried.add_argument("--wait", type=float, default=0,
                               help="first wait for the guests, seconds for each")
    script = commands.add_parser("script", help="several operations: a JSON list of lists")
    script.add_argument("steps", type=json.loads)
    ask = commands.add_parser("ask", help="one operation of one probe (the word may be left out)")
    ask.add_argument("guest")
    ask.add_argument("op")
    ask.add_argument("args", nargs=argparse.REMAINDER)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command. 0: it was answered (denials are answers), 2 bad input, 3 error."""
    words = list(argv)
    if words and not words[0].startswith("-") and words[0] not in (
        "wait", "pair", "matrix", "script", "ask",
    ):
        words.insert(0, "ask")
    options = _parser().parse_args(words)
    try:
        print(json.dumps(_perform(options)))
    except ShypeError as error:
        print(json.dumps(error.to_json()))
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _perform(options: argparse.Namespace) -> object:
    if options.command == "ask":
        with connected([options.guest]) as (guest,):
            timeout = 600.0 if options.op.startswith("bench") else 20.0
            return guest.ask(options.op, *options.args, timeout=timeout).members
    if options.command == "script":
        return {"answers": _script(options.steps)}
    with connected(options.guests) as guests:
        if options.command == "wait":
            return {guest.name: guest.wait(options.timeout).members for guest in guests}
        order = pairs(guests)
        if options.command == "pair":
            order = [(guests[0], guests[1])]
        elif options.wait:
            for guest in guests:
                guest.wait(options.wait)
        if options.command == "matrix" and options.pair:
            by = dict(zip(options.guests, guests, strict=True))
            order = [(by[a], by[b]) for a, b in options.pair]
        mechanisms = options.mechanism or MECHANISMS
        return {"attempts": [
            experiment(a, b, mechanism).to_json() for a, b in order for mechanism in mechanisms
        ]}


def _script(steps: Sequence[Sequence[str | int]]) -> list[object]:
    """The answers; an argument ``@N.NAME`` is a member of an earlier one."""
    answers: list[object] = []
    names = list(dict.fromkeys(str(step[0]) for step in steps))
    with connected(names) as guests:
        by = dict(zip(names, guests, strict=True))
        for name, op, *args in steps:
            given = [_resolved(arg, answers) for arg in args]
            timeout = 600.0 if str(op).startswith("bench") else 20.0
            answers.append(dict(by[str(name)].ask(str(op), *given, timeout=timeout).members))
    return answers


def _resolved(arg: str | int, answers: Sequence[object]) -> str | int:
    match = re.fullmatch(r"@(\d+)\.(\w+)", arg) if isinstance(arg, str) else None
    if match is None:
        return arg
    try:
        value = answers[int(match[1])]
        assert isinstance(value, dict)
        found: str | int = value[match[2]]
        return found
    except (IndexError, KeyError) as error:
        raise BadInput("probe.argument", f"no earlier answer has {arg}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
