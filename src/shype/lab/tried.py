"""What guests of every label can do to each other: each pair, each mechanism, for real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.host.verify.table import Answer, Question
from shype.lab import probe
from shype.lab.guests import MEMORY, config
from shype.lab.host import Lab
from shype.lab.probe import Attempt, Result, Way
from shype.lab.rounds import Pair, Round, plan
from shype.policy.manifest import Manifest
from shype.policy.names import LabelName

#: Guests that are started at once, if the host has the memory.
AT_ONCE = 8
#: MiB of the host's memory that a guest takes beyond its own.
_OVERHEAD = 6
#: Seconds that starting a guest, and its boot, may take on a busy machine.
_START, _BOOT = 300.0, 300.0
_ANSWERS = {Result.PERMITTED: Answer.PERMIT, Result.DENIED: Answer.DENY,
            Result.ERROR: Answer.ERROR}
WAYS = (*probe.SHARING, *probe.FORBIDDEN)

#: Told what is being done.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """Every attempt, and what the guests answer to each question.

    ``failed``: labels of which no guest could be started, though the policy
    permits it, and what was said; ``seconds`` by phase.
    """

    attempts: tuple[Attempt, ...]
    answers: Mapping[Question, Answer]
    failed: Mapping[LabelName, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def try_all(
    lab: Lab, server: SecurityServer, manifest: Manifest, *, twins: bool = False,
    progress: Progress = lambda _: None,
) -> Tried:
    """Start guests of all labels, in as many rounds as the walls need, and let them try.

    Guests that run already are used and left alone; they must have the lab's own
    initrd.  With ``twins`` a second guest of every label is tried with the first.

    Raises Unavailable (``guest.silent``, ``probe.answer``, ``lab.gone``).
    """
    return _Trier(lab, server, manifest, twins, progress).all()


class _Trier:
    def __init__(self, lab: Lab, server: SecurityServer, manifest: Manifest, twins: bool,
                 progress: Progress) -> None:
        self._lab, self._server, self._manifest = lab, server, manifest
        self._twins, self._progress = twins, progress
        self._vms = self._present()
        self._ours: set[LabelName] = set()
        self._failed: dict[LabelName, str] = {}
        self._attempts: list[tuple[Attempt, LabelName, LabelName]] = []
        self._seconds = {"starting": 0.0, "booting": 0.0, "trying": 0.0}

    def all(self) -> Tried:
        labels = list(self._manifest.labels)
        chosen = plan(self._server, labels, at_once=len(self._vms) + self._room(),
                      fixed=self._vms)
        try:
            for number, part in enumerate(chosen.rounds, 1):
                self._progress(f"round {number} of {len(chosen.rounds)}: "
                               f"{len(part.labels)} guests, {len(part.pairs)} pairs of labels")
                self._round(part)
        finally:
            self._stop(self._ours)
        answers = dict(answers_of(self._attempts))
        for pair in chosen.apart:
            _mark(answers, pair, Answer.NOT_TOGETHER)
        for name in (*chosen.refused, *self._failed):
            for other in labels:
                _mark(answers, frozenset((name, other)), Answer.NOT_POSSIBLE)
        return Tried(tuple(item[0] for item in self._attempts), answers, self._failed,
                     {name: round(value, 1) for name, value in self._seconds.items()})

    def _round(self, part: Round) -> None:
        self._stop(self._ours - {*part.labels})
        new = [name for name in part.labels if name not in self._vms and name not in self._failed]
        # The slower ones first: they boot while the others are built.
        for name in sorted(new, key=lambda label: self._type(label) == "pv"):
            vm = f"try-{name}"
            if self._start(vm, name, self._type(name)):
                self._vms[name] = vm
                self._ours.add(name)
        here = [name for name in part.labels if name in self._vms]
        self._wait([self._vms[name] for name in here])
        pairs = [(a, b) for a in here for b in here
                 if a != b and frozenset((a, b)) in part.pairs]
        self._try([(a, self._vms[a], b, self._vms[b]) for a, b in pairs], WAYS)
        if self._twins:
            for name in here:
                if frozenset((name,)) in part.pairs:
                    self._twin(name)

    def _twin(self, name: LabelName) -> None:
        """A PV guest boots faster; it sends to an Argo ring but cannot have one."""
        vm, twin = self._vms[name], f"twin-{name}"
        if not self._start(twin, name, "pv"):
            return
        try:
            self._wait([twin])
            self._try([(name, vm, name, twin)], tuple(w for w in WAYS if w is not Way.ARGO))
            self._try([(name, twin, name, vm)], WAYS)
        finally:
            self._lab.run(["shype", "stop", "--force", twin], _START)

    def _type(self, name: LabelName) -> str:
        """PVH for whoever may receive by Argo, since a PV guest cannot have a ring."""
        receives = any(self._server.permits(other, name, Operation.ARGO_SEND)
                       for other in self._manifest.labels)
        return "pvh" if receives else "pv"

    # -- guests ------------------------------------------------------------------------------

    def _present(self) -> dict[LabelName, str]:
        found: dict[LabelName, str] = {}
        for line in self._lab.run(["xl", "list", "-Z"]).out.splitlines()[1:]:
            row = line.split()
            label = self._manifest.label_of_context(row[-1])
            if row[1] != "0" and label is not None:
                found.setdefault(label, row[0])
        return found

    def _room(self) -> int:
        """How many more guests there is memory for; one place is kept for a twin."""
        for line in self._lab.run(["xl", "info"]).out.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "free_memory":
                return min(AT_ONCE, int(value) // (MEMORY + _OVERHEAD) - self._twins)
        return AT_ONCE

    def _start(self, vm: str, label: LabelName, type: str) -> bool:
        began = time.monotonic()
        place = f"/run/verify/{vm}.cfg"
        self._lab.put(place, config(vm, type=type, seclabel=label))
        done = self._lab.run(["shype", "run", place], _START)
        self._seconds["starting"] += time.monotonic() - began
        if done.code != 0:
            self._failed[label] = (done.out + done.err).strip()[-600:]
        return done.code == 0

    def _stop(self, labels: Iterable[LabelName]) -> None:
        for name in tuple(labels):
            self._lab.run(["shype", "stop", "--force", self._vms.pop(name)], _START)
            self._ours.discard(name)

    def _wait(self, vms: Sequence[str]) -> None:
        if not vms:
            return
        began = time.monotonic()
        probe.wait_for(self._lab.run, vms, timeout=_BOOT)
        self._seconds["booting"] += time.monotonic() - began

    def _try(self, pairs: Sequence[tuple[LabelName, str, LabelName, str]], ways: Sequence[Way]
             ) -> None:
        if not pairs:
            return
        began = time.monotonic()
        labels = {(a, b): (x, y) for x, a, y, b in pairs}
        for attempt in probe.probe_pairs(self._lab.run, list(labels), ways):
            self._attempts.append((attempt, *labels[attempt.source, attempt.target]))
        self._seconds["trying"] += time.monotonic() - began


def answers_of(
    attempts: Iterable[tuple[Attempt, LabelName, LabelName]]
) -> Iterable[tuple[Question, Answer]]:
    """Each question that was tried; attempts that do not say the same make an error."""
    found: dict[Question, Answer] = {}
    for attempt, source, target in attempts:
        way = attempt.mechanism
        subject, object = (target, source) if way.pulled else (source, target)
        question = subject, object, way.operation
        said = _ANSWERS[attempt.result]
        found[question] = said if found.get(question, said) is said else Answer.ERROR
    return found.items()


def _mark(answers: dict[Question, Answer], pair: Pair, why: Answer) -> None:
    """Nothing of this pair is tried, and why."""
    names = sorted(pair)
    for a, b in {(names[0], names[-1]), (names[-1], names[0])}:
        for way in WAYS:
            answers.setdefault((a, b, way.operation), why)
