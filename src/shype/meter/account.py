"""Pure: from one sight of all domains to the next, what each run of a VM has used in all.

A *run* is one domain from its creation to its end; a VM that reboots has one after the other.
Its amounts only grow.  A device's counters begin at nought when it is attached, and are lost
with it: so what each had reached is remembered here, by a name that no other device gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shype.meter.source import Kind, Moment, Reading, Sight
from shype.meter.usage import Usage


@dataclass(frozen=True, slots=True)
class Run:
    """Whose amounts. ``label`` is None for a domain that the policy does not know."""

    number: int
    vm: str
    uuid: str
    domid: int
    boot: str
    label: str | None
    coalitions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As records have it."""
        return {"run": self.number, "vm": self.vm, "uuid": self.uuid, "domid": self.domid,
                "boot": self.boot, "label": self.label, "coalitions": list(self.coalitions)}

    @classmethod
    def of(cls, value: Any) -> Run:
        """The inverse. Raises ValueError, KeyError, TypeError."""
        made = cls(value["run"], value["vm"], value["uuid"], value["domid"], value["boot"],
                   value["label"], tuple(value["coalitions"]))
        if type(made.number) is not int or type(made.domid) is not int:
            raise TypeError("numbers")
        if not all(isinstance(word, str) for word in (made.vm, made.uuid, made.boot)):
            raise TypeError("words")
        return made


@dataclass(frozen=True, slots=True)
class Account:
    """A run that goes on: its amounts, and what the next ones are counted from.

    ``at`` is the uptime of its last sight, ``memory`` what it held then (bytes), ``left`` the
    nanosecond-bytes that made no whole byte-second yet; ``devices`` what each had reached.
    """

    run: Run
    usage: Usage
    at: int
    memory: int
    left: int = 0
    stopped: bool = False
    devices: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the head has it."""
        return {"run": self.run.to_json(), "usage": self.usage.row(), "at": self.at,
                "memory": self.memory, "left": self.left, "stopped": self.stopped,
                "devices": {name: list(row) for name, row in self.devices.items()}}

    @classmethod
    def of(cls, value: Any) -> Account:
        """The inverse. Raises ValueError, KeyError, TypeError."""
        devices = {}
        for name, row in value["devices"].items():
            a, b, c, d = row
            devices[name] = (int(a), int(b), int(c), int(d))
        return cls(Run.of(value["run"]), Usage.of(value["usage"]), int(value["at"]),
                   int(value["memory"]), int(value["left"]), bool(value["stopped"]), devices)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over. ``unseen``: nanoseconds between its last sight and this one, in which
    it may have used more; 0 if it had stopped before, None if the host booted meanwhile."""

    run: int
    unseen: int | None

    def to_json(self) -> dict[str, Any]:
        """As records have it."""
        return {"run": self.run, "unseen_ns": self.unseen}


@dataclass(frozen=True, slots=True)
class Step:
    """From one sight to the next. ``accounts`` by run."""

    accounts: Mapping[int, Account]
    opened: tuple[Run, ...]
    ended: tuple[Ended, ...]
    blind: Mapping[int, tuple[str, ...]]


#: Makes the `Run` of a domain that is seen for the first time; gets its number and boot.
Opens = Callable[[int, str, Reading], Run]


def step(
    before: Mapping[int, Account], following: int, sight: Sight, opens: Opens,
    ends: int | None = None,
) -> Step:
    """What ``sight`` makes of the accounts ``before``; new runs are numbered from ``following``.

    ``ends``: the domain that is destroyed right after: it counts as one that has stopped, until
    somebody sees it run still.
    """
    moment = sight.moment
    known = {(a.run.boot, a.run.domid, a.run.uuid): a for a in before.values()}
    accounts: dict[int, Account] = {}
    opened: list[Run] = []
    blind: dict[int, tuple[str, ...]] = {}
    for reading in sight.domains:
        account = known.pop((moment.boot, reading.domid, reading.uuid), None)
        if account is None:
            run = opens(following + len(opened), moment.boot, reading)
            opened.append(run)
            account = Account(run, Usage(), moment.uptime, reading.memory)
        number = account.run.number
        grown = _grown(account, reading, moment)
        accounts[number] = replace(grown, stopped=True) if reading.domid == ends else grown
        if reading.blind:
            blind[number] = reading.blind
    ended = tuple(_ended(account, moment) for account in known.values())
    return Step(accounts, tuple(opened), ended, blind)


def _grown(account: Account, reading: Reading, moment: Moment) -> Account:
    passed = max(moment.uptime - account.at, 0)
    # It changes between two sights nobody knows when: the mean of both.
    held = (account.memory + reading.memory) // 2 * passed + account.left
    amounts = {Kind.DISK: [0, 0, 0, 0], Kind.NETWORK: [0, 0, 0, 0]}
    devices = {}
    for name, counters in reading.devices.items():
        now = counters.row()
        last = account.devices.get(name, (0, 0, 0, 0))
        # Never backwards, even if a driver should begin again under the same name.
        since = tuple(n - o for n, o in zip(now, last, strict=True))
        if min(since) < 0:
            since = now
        for place, amount in enumerate(since):
            amounts[counters.kind][place] += amount
        devices[name] = now
    disk, net = amounts[Kind.DISK], amounts[Kind.NETWORK]
    usage = account.usage + Usage(
        max(reading.cpu_ns - account.usage.cpu_ns, 0), held // 10**9, passed, *disk, *net)
    return replace(account, usage=usage, at=moment.uptime, memory=reading.memory,
                   left=held % 10**9, stopped=reading.stopped, devices=devices)


def _ended(account: Account, moment: Moment) -> Ended:
    if account.stopped:
        return Ended(account.run.number, 0)
    if account.run.boot != moment.boot:
        return Ended(account.run.number, None)
    return Ended(account.run.number, max(moment.uptime - account.at, 0))
