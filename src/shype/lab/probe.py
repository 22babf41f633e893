"""Let the guests of a running lab try the real thing, from the author's machine.

Built on a ``run`` that executes a command in dom0, such as
`shype.lab.host.Lab.run`; everything else happens in dom0
(`shype.lab.dom0.guestctl`) and in the guests (the probe).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

GUESTCTL = ("python3", "-m", "shype.lab.dom0.guestctl")
#: dom0's place for the Python package, and for the probe itself.
ENVIRONMENT = ("env", "PYTHONPATH=/opt/shype")
#: Seconds that one attempt may take in an emulated, loaded lab (usual: 0.2 to 1).
ATTEMPT_LIMIT = 60.0
#: Seconds in which a guest boots in such a lab.
BOOT_LIMIT = 120.0


class Ran(Protocol):
    """A command that ended in dom0 (`shype.base.child.Completed` is one)."""

    @property
    def code(self) -> int: ...

    @property
    def out(self) -> str: ...

    @property
    def err(self) -> str: ...


class Run(Protocol):
    """Runs a command in dom0, at most ``timeout`` seconds."""

    def __call__(self, argv: Sequence[str], timeout: float, /) -> Ran: ...


class Way(StrEnum):
    """A way for information to get from one guest to another, as the probe tries it."""

    EVENT = "event"
    GRANT_MAP_RO = "grant-map-ro"
    GRANT_MAP_RW = "grant-map-rw"
    GRANT_COPY_FROM = "grant-copy-from"
    GRANT_COPY_TO = "grant-copy-to"
    ARGO = "argo"
    FOREIGN = "foreign"
    CONTROL = "control"

    @property
    def operation(self) -> Operation:
        """What the policy calls it."""
        return _OPERATIONS[self]

    @property
    def pulled(self) -> bool:
        """Whether the target of the information acts, and not its source."""
        return self in (Way.GRANT_MAP_RO, Way.GRANT_COPY_FROM)

    def decide(self, server: SecurityServer, source: LabelName, target: LabelName) -> Decision:
        """What the policy says of information that goes from ``source`` to ``target`` this way."""
        subject, object = (target, source) if self.pulled else (source, target)
        return server.decide(subject, object, self.operation)


_OPERATIONS = {
    Way.EVENT: Operation.EVENT_SEND, Way.GRANT_MAP_RO: Operation.MAP_READ,
    Way.GRANT_MAP_RW: Operation.MAP_WRITE, Way.GRANT_COPY_FROM: Operation.COPY_FROM,
    Way.GRANT_COPY_TO: Operation.COPY_TO, Way.ARGO: Operation.ARGO_SEND,
    Way.FOREIGN: Operation.FOREIGN_MAP, Way.CONTROL: Operation.CONTROL,
}
#: What two guests may be allowed to do with each other.
SHARING = (Way.EVENT, Way.GRANT_MAP_RO, Way.GRANT_MAP_RW, Way.GRANT_COPY_FROM,
           Way.GRANT_COPY_TO, Way.ARGO)
#: What guests may never do with each other.
FORBIDDEN = (Way.FOREIGN, Way.CONTROL)


class Result(StrEnum):
    """``permitted``: it arrived. ``denied``: the hypervisor refused, for certain."""

    PERMITTED = "permitted"
    DENIED = "denied"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the hypervisor did when ``source`` tried to reach ``target``.

    ``evidence`` has the ``token`` that was to arrive, every step with the
    probe's own answer, and the ``seconds`` that it took.
    """

    source: str
    target: str
    mechanism: Way
    result: Result
    evidence: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """Shape of an attempt in every ``--json`` output."""
        return {"from": self.source, "to": self.target, "mechanism": self.mechanism.value,
                "result": self.result.value, "evidence": dict(self.evidence)}


def wait_for(run: Run, guests: Sequence[str], timeout: float = BOOT_LIMIT) -> None:
    """Wait until the probes of ``guests`` (names or domids) answer.

    Raises Unavailable (``guest.silent``, ...) or BadInput (``guest.unknown``).
    """
    _guestctl(run, ["wait", *guests, "--timeout", f"{timeout:g}"], timeout * len(guests) + 30)


def ask(run: Run, guest: str, op: str, *args: str | int, timeout: float = 60.0
        ) -> Mapping[str, object]:
    """One operation of one probe; its answer (docs/reference/probe.md)."""
    return _guestctl(run, ["ask", guest, op, *map(str, args)], timeout)


def script(run: Run, steps: Sequence[Sequence[str | int]]) -> tuple[Mapping[str, object], ...]:
    """Several operations, each ``(guest, op, *args)``, by one call; their answers in order.

    An argument ``@N.NAME`` stands for the member NAME of the answer to step N (from 0).
    Raises as `ask`.
    """
    found = _guestctl(run, ["script", json.dumps(steps)], 30.0 + 30.0 * len(steps))
    answers = found.get("answers")
    if not isinstance(answers, list) or len(answers) != len(steps):
        raise _strange(f"{len(steps)} answers expected", json.dumps(found))
    return tuple(answers)


def probe_pair(run: Run, a: str, b: str, mechanisms: Sequence[Way] = SHARING
               ) -> tuple[Attempt, ...]:
    """Try every one of ``mechanisms`` from guest ``a`` to guest ``b`` (names or domids).

    Raises Unavailable if a guest does not answer, BadInput (``guest.unknown``).
    """
    found = _guestctl(run, ["pair", a, b, *_options(mechanisms)],
                      30 + ATTEMPT_LIMIT * len(mechanisms))
    return attempts(found, len(mechanisms))


def probe_matrix(run: Run, guests: Sequence[str], mechanisms: Sequence[Way] = SHARING
                 ) -> tuple[Attempt, ...]:
    """Every ordered pair of different ``guests``; errors as `probe_pair`."""
    count = len(guests) * (len(guests) - 1) * len(mechanisms)
    found = _guestctl(run, ["matrix", *guests, *_options(mechanisms)], 30 + ATTEMPT_LIMIT * count)
    return attempts(found, count)


def probe_pairs(run: Run, pairs: Sequence[tuple[str, str]], mechanisms: Sequence[Way] = SHARING,
                *, boot: float = 0) -> tuple[Attempt, ...]:
    """Each of ``pairs`` of guests, from the first to the second; errors as `probe_pair`.

    Waits up to ``boot`` seconds for the guests first.
    """
    words = [word for a, b in pairs for word in ("--pair", a, b)]
    guests = dict.fromkeys(guest for pair in pairs for guest in pair)
    count = len(pairs) * len(mechanisms)
    found = _guestctl(
        run, ["matrix", *guests, *words, *_options(mechanisms), "--wait", f"{boot:g}"],
        30 + boot * len(guests) + ATTEMPT_LIMIT * count)
    return attempts(found, count)


def attempts(found: Mapping[str, object], expected: int) -> tuple[Attempt, ...]:
    """Read guestctl's ``{"attempts": [...]}``.

    Raises Unavailable (``probe.answer``) for anything else: an attempt that is
    missing or malformed must never pass as one that was denied.
    """
    entries = found.get("attempts")
    if not isinstance(entries, list) or len(entries) != expected:
        raise _strange(f"{expected} attempts expected", json.dumps(found))
    return tuple(_attempt(entry) for entry in entries)


def _attempt(entry: object) -> Attempt:
    try:
        if isinstance(entry, dict) and isinstance(entry["evidence"], dict):
            return Attempt(str(entry["from"]), str(entry["to"]), Way(entry["mechanism"]),
                           Result(entry["result"]), entry["evidence"])
    except (KeyError, ValueError) as error:
        raise _strange("a malformed attempt", json.dumps(entry)) from error
    raise _strange("a malformed attempt", json.dumps(entry))


def _options(mechanisms: Sequence[Way]) -> list[str]:
    if not mechanisms:
        raise BadInput("probe.mechanism", "no mechanism was named")
    return [word for way in mechanisms for word in ("--mechanism", way.value)]


def _guestctl(run: Run, words: Sequence[str], timeout: float) -> Mapping[str, object]:
    done = run([*ENVIRONMENT, *GUESTCTL, *words], timeout)
    try:
        value = json.loads(done.out)
    except ValueError as error:
        raise _strange(f"exit code {done.code}", done.err or done.out) from error
    if not isinstance(value, dict):
        raise _strange("no JSON object", done.out)
    if "error" in value and done.code != 0:
        kind: type[ShypeError] = BadInput if done.code == BadInput.exit_code else Unavailable
        raise kind(str(value["error"]), str(value.get("message")), str(value.get("fix", "")))
    if done.code != 0:
        raise _strange(f"exit code {done.code}", done.err or done.out)
    return value


def _strange(what: str, text: str) -> Unavailable:
    return Unavailable("probe.answer", f"guestctl in dom0 gave no usable answer ({what}): "
                       f"{text.strip()[-600:]}")
