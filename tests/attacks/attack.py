"""What an attack is, where it happens, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

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
    """How much of dom0 the host trusts."""

    DEFAULT = "default"
    LOCKED = "locked"  # the VM's label is `locked`
    MANAGER = "manager"  # a domain of its own opens windows


class Ends(StrEnum):
    """How an attempt ends."""

    STOPPED = "stopped"  # refused, and nothing is left behind
    DETECTED = "detected"  # not prevented; shype tells, and a test shows that it does
    OPEN = "open"  # neither: a known limit, listed in docs/explanation/limits.md


@dataclass(frozen=True)
class Ended:
    """What came of it, with the evidence (a refusal's id, an AVC line, an errno)."""

    how: Ends
    evidence: str


@dataclass(frozen=True)
class Arena:
    """A lab with what its area has set up in it."""

    lab: Lab
    bundle: Path
    notes: Mapping[str, str] = field(default_factory=dict)

    def as_user(self, script: str, timeout: float = 60) -> tuple[int, str]:
        """Run a shell script in dom0 as ``nobody``; exit code and output."""
        done = self.lab.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script],
            timeout)
        return done.code, done.out + done.err


@dataclass(frozen=True)
class Attack:
    """One named attempt. ``attempt`` cleans up what it started."""

    name: str  # area.what, unique
    by: By
    what: str  # one sentence
    expected: Ends
    attempt: Callable[[Arena], Ended]
    mode: Mode = Mode.DEFAULT


def each(attacks: Sequence[Attack]) -> Any:
    """A test of each attack: it must end as expected, and its row goes into the table."""
    @pytest.mark.lab
    @pytest.mark.parametrize(
        "attack", attacks, ids=[f"{attack.name}-{attack.mode}" for attack in attacks])
    def test_attack(attack: Attack, arena: Arena, record_property: Callable[..., None]) -> None:
        ended = attack.attempt(arena)
        row = (attack.name, attack.by, attack.mode, attack.what, ended.how, ended.evidence)
        record_property("attack", [str(word) for word in row])  # enums do not cross processes
        assert ended.how is attack.expected, f"{attack.what} {ended.evidence}"

    return test_attack
