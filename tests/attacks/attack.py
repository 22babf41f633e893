"""What an attack is, where it happens, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from shype.lab.host import Lab


class By(StrEnum):
    """Who tries."""

    GUEST = "guest"
    DRIVER = "driver domain"
    USER = "dom0 user"  # unprivileged
    ROOT = "dom0 root"  # on purpose
    ADMIN = "administrator"  # root's mistake, or a race of two administrators
    FAULT = "fault"  # something dies or fills up


class Mode(StrEnum):
    """How much of dom0 the host trusts; each mode takes more away than the one before."""

    DEFAULT = "default"
    LOCKED = "locked"  # the label of every VM is `locked`
    MANAGER = "manager"  # the same, and a domain of its own opens windows


class Ends(StrEnum):
    """How an attempt ends."""

    STOPPED = "stopped"  # refused, and nothing is left behind
    DETECTED = "detected"  # not prevented; shype tells, and a test shows that it does
    OPEN = "open"  # neither: a known limit, listed in docs/explanation/limits.md


class Whom(StrEnum):
    """Who refuses, or tells."""

    XEN = "hypervisor"
    AGENT = "agent"  # shype in dom0
    MANAGER = "manager"
    STORE = "xenstored"
    KERNEL = "dom0's kernel"
    BRIDGE = "bridge"
    LOADER = "boot loader"
    SERVER = "object manager"
    SWTPM = "the TPM"
    AUDITOR = "auditor"


@dataclass(frozen=True)
class Ended:
    """What came of it, with the evidence (a refusal's id, an AVC line, an errno).

    ``whom``: who refused or told, if that is somebody else than the attack says.
    """

    how: Ends
    evidence: str
    whom: Whom | None = None


@dataclass(frozen=True)
class Untried:
    """An attempt that a mode does not have, or that is not repeated in it."""

    why: str


@dataclass(frozen=True)
class Arena:
    """A lab with what its area has set up in it."""

    lab: Lab
    notes: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = Mode.DEFAULT

    def as_user(self, script: str, timeout: float = 60) -> tuple[int, str]:
        """Run a shell script in dom0 as ``nobody``; exit code and output."""
        done = self.lab.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script],
            timeout)
        return done.code, done.out + done.err


Expected = Ends | Untried
#: Of areas in which no attempt sets a boolean, which is all that a manager takes from dom0.
AS_MANAGED = {Mode.LOCKED: "as in manager mode: the labels are locked there too, and nothing that "
              "is tried here is the manager's affair"}
Step = Callable[[Arena], None]


@dataclass(frozen=True)
class Attack:
    """One named attempt. ``attempt`` cleans up what it started.

    ``expected`` holds in all modes, but in those that ``but`` names. ``whom`` is to refuse, or to
    tell; who it was in truth is what the evidence shows.
    """

    name: str  # area.what, unique
    by: By
    what: str  # one sentence
    expected: Ends
    whom: Whom | None  # None: nobody
    attempt: Callable[[Arena], Ended]
    but: Mapping[Mode, Expected] = field(default_factory=dict)

    def ends(self, mode: Mode) -> Expected:
        """What is expected in this mode."""
        return self.but.get(mode, self.expected)

    def row(self, mode: Mode, ended: Ended | Untried) -> list[str]:
        """What the table gets to know (enums do not cross processes)."""
        if isinstance(ended, Untried):
            came, evidence = "not tried", ended.why
        else:
            came, evidence = self._came(ended), ended.evidence
        return [str(word) for word in (self.name, self.by, self.what, mode, came, evidence)]

    def _came(self, ended: Ended) -> str:
        whom = ended.whom or self.whom
        match ended.how:
            case Ends.OPEN:
                return "permitted"
            case Ends.STOPPED:
                return f"denied by {whom}"
            case Ends.DETECTED:
                return f"told by {whom}"


@dataclass(frozen=True)
class Check:
    """What is to work in every mode, in its place among the attacks."""

    step: Step
    without: Mapping[Mode, str] = field(default_factory=dict)  # not in this mode, and why

    def __str__(self) -> str:
        return self.step.__name__


def each(
    steps: Sequence[Attack | Check], *, without: Mapping[Mode, str] | None = None,
) -> tuple[type, type, type]:
    """The tests in the three modes, each on a host of its own, from the fixture ``arena``.

    An attack must end as expected, and its row goes into the table. ``without``: modes that none of
    them has, and why.
    """
    none = {mode: Untried(why) for mode, why in (without or {}).items()}
    default, locked, manager = (_in_mode(steps, mode, none) for mode in Mode)
    return default, locked, manager


def _in_mode(
    steps: Sequence[Attack | Check], mode: Mode, none: Mapping[Mode, Untried],
) -> type:
    def expected(attack: Attack, mode: Mode) -> Expected:
        return none.get(mode) or attack.ends(mode)

    def tried(step: Attack | Check) -> bool:
        if isinstance(step, Check):
            return mode not in step.without and mode not in none
        return isinstance(expected(step, mode), Ends)

    def untried(attack: Attack) -> list[list[str]]:
        """Told by the first mode in which it is tried."""
        ends = {mode: expected(attack, mode) for mode in Mode}
        if mode is not next(m for m, end in ends.items() if isinstance(end, Ends)):
            return []
        return [attack.row(m, end) for m, end in ends.items() if isinstance(end, Untried)]

    mine = [step for step in steps if tried(step)]

    @pytest.mark.lab
    class Tests:
        MODE = mode

        @pytest.mark.parametrize(
            "step", mine, ids=[one.name if isinstance(one, Attack) else str(one) for one in mine])
        def test(
            self, step: Attack | Check, arena: Arena,
            record_property: Callable[[str, object], None],
        ) -> None:
            if isinstance(step, Check):
                return step.step(arena)
            ended = step.attempt(arena)
            for row in (step.row(mode, ended), *untried(step)):
                record_property("attack", row)
            assert ended.how is expected(step, mode), f"{step.what} {ended.evidence}"
            return None

    return Tests
