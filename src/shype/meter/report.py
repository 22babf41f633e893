"""Adds up what a ledger says: by VM, label, coalition or owner, between two moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shype.base.errors import BadInput
from shype.meter.account import Run
from shype.meter.reader import lines
from shype.meter.record import decode
from shype.meter.usage import NOTHING, Usage

#: Who pays, by the name of a VM or of a label; a VM's own entry counts first.
Owners = Mapping[str, str]
NOBODY: Owners = {}


class By(StrEnum):
    """What amounts are added up for."""

    VM = "vm"
    LABEL = "label"
    COALITION = "coalition"
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Period:
    """From (included) to (excluded), nanoseconds since 1970; None: open."""

    begin: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report. ``runs``: how many domains made it up; ``unseen`` of them ended
    between two samples; ``blind``: disks whose figures nobody has."""

    key: str
    runs: int
    usage: Usage
    unseen: int = 0
    blind: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype meter report --json``."""
        return {"key": self.key, "runs": self.runs, **self.usage.to_json(),
                "ended_unseen": self.unseen, "unmetered": list(self.blind)}


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one sample says of one run: all it had used until ``time`` (since 1970, ns)."""

    run: Run
    time: int
    usage: Usage


@dataclass(slots=True)
class _Run:
    run: Run
    before: Usage = NOTHING
    last: Usage = NOTHING
    within: bool = False
    unseen: bool = False
    blind: tuple[str, ...] = ()


def report(
    directories: Sequence[Path], by: By, period: Period = Period(), owners: Owners = NOBODY,
) -> tuple[Row, ...]:
    """Add up all ledgers of ``directories`` (of several hosts, say), greatest processor time first.

    A VM of several coalitions counts in each of them.  Nothing is verified here.
    Raises BadInput (``meter.no-ledger``, ``meter.unreadable``), OSError.
    """
    found: list[_Run] = []
    for directory in directories:
        found += _runs(directory, period)
    rows: dict[str, Row] = {}
    for one in found:
        if not one.within:
            continue
        for key in keys(one.run, by, owners):
            row = rows.get(key, Row(key, 0, NOTHING))
            rows[key] = Row(
                key, row.runs + 1, row.usage + (one.last - one.before), row.unseen + one.unseen,
                tuple(sorted({*row.blind, *one.blind})))
    return tuple(sorted(rows.values(), key=lambda row: (-row.usage.cpu_ns, row.key)))


def owners(text: str, name: str) -> Owners:
    """The owners in a file ``name``: a VM or label and its owner in each line, ``#`` comments.

    Who pays is no matter of the policy, and changes without it. Raises BadInput
    (``meter.owners``).
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].split(maxsplit=1)
        if not said:
            continue
        if len(said) != 2 or said[0] in found:
            raise BadInput(
                "meter.owners", f"{name}:{number}: "
                + ("a name without an owner" if len(said) != 2 else f"{said[0]} for a second time"),
                "write a VM or a label, a blank, and its owner: one in each line")
        found[said[0]] = said[1].strip()
    return found


def history(directory: Path) -> Iterator[Sampled]:
    """All figures, in the order of samples. Raises as `report`."""
    runs: dict[int, Run] = {}
    for body in _samples(directory):
        runs.update((run.number, run) for run in map(Run.of, body.get("opened", ())))
        for number, *row in body["usage"]:
            yield Sampled(runs[number], body["time_ns"], Usage.of(row))


def _runs(directory: Path, period: Period) -> Iterable[_Run]:
    runs: dict[int, _Run] = {}
    for body in _samples(directory):
        time = body["time_ns"]
        runs.update((run.number, _Run(run)) for run in map(Run.of, body.get("opened", ())))
        late = period.end is not None and time >= period.end
        early = period.begin is not None and time < period.begin
        if late:
            continue
        for number, *row in body["usage"]:
            one, usage = runs[number], Usage.of(row)
            one.last = usage
            if early:
                one.before = usage
            else:
                one.within = True
        for number, names in body.get("blind", {}).items():
            runs[int(number)].blind = tuple(names)
        if not early:
            for ended in body.get("ended", ()):
                runs[ended["run"]].unseen = ended["unseen_ns"] != 0
    return runs.values()


def _samples(directory: Path) -> Iterator[Mapping[str, Any]]:
    for line in lines(directory):
        try:
            if line.problem:
                raise ValueError(line.problem)
            record = decode(line.data)
        except ValueError as error:
            raise BadInput(
                "meter.unreadable", f"{line.file}:{line.number}: {error}",
                "`shype meter verify` says what else is wrong with it") from error
        if record.kind == "sample":
            yield record.body


def keys(run: Run, by: By, owners: Owners = NOBODY) -> tuple[str, ...]:
    """What a run counts for: several coalitions, or one of anything else."""
    if by is By.VM:
        return (run.vm,)
    if by is By.LABEL:
        return (run.label or "(no label)",)
    if by is By.OWNER:
        return (owners.get(run.vm) or owners.get(run.label or "") or "(no owner)",)
    return run.coalitions or ("(no coalition)",)
