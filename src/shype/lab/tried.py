"""What guests of every label can do to each other: each pair, each mechanism, for real."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shype.base.errors import Unavailable
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

#: How the name of a second guest begins.
_TWIN = "twin-"

#: Told what is being done.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """Every attempt with its question, and what the guests answer to each.

    ``failed``: labels of which no guest could be started, though the policy
    permits it, and what was said; ``seconds`` by phase (a guest's boot counts as trying).
    """

    attempts: tuple[tuple[Question, Attempt], ...]
    answers: Mapping[Question, Answer]
    failed: Mapping[LabelName, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def try_all(
    lab: Lab, server: SecurityServer, manifest: Manifest, *, twins: Collection[LabelName] = (),
    keep: bool = False, progress: Progress = lambda _: None,
) -> Tried:
    """Start guests of all labels, in as many rounds as the walls need, and let them try.

    Guests that run already are used and left alone; they must have the lab's own
    initrd.  Of each label in ``twins`` a second guest is tried with the first.
    With ``keep``, what ran last goes on running.

    Raises Unavailable (``lab.startup``, ``guest.silent``, ``probe.answer``, ``lab.gone``).
    """
    return _Trier(lab, server, manifest, twins, progress).all(keep)


class _Trier:
    def __init__(self, lab: Lab, server: SecurityServer, manifest: Manifest,
                 twins: Collection[LabelName], progress: Progress) -> None:
        self._lab, self._server, self._manifest = lab, server, manifest
        self._twins, self._progress = twins, progress
        self._vms = self._present()
        #: All that run, twins included.
        self._running = list(self._vms)
        self._ours: dict[LabelName, list[str]] = {}
        self._failed: dict[LabelName, str] = {}
        self._attempts: list[tuple[Attempt, LabelName, LabelName]] = []
        self._seconds = {"starting": 0.0, "trying": 0.0}

    def all(self, keep: bool) -> Tried:
        labels = list(self._manifest.labels)
        chosen = plan(self._server, labels, at_once=len(self._vms) + self._room(),
                      fixed=self._vms)
        try:
            for number, part in enumerate(chosen.rounds, 1):
                self._progress(f"round {number} of {len(chosen.rounds)}: "
                               f"{len(part.labels)} guests, {len(part.pairs)} pairs of labels")
                self._round(part)
        finally:
            if not keep:
                self._perform(self._ends(()))
        answers = dict(answers_of(self._attempts))
        for pair in chosen.apart:
            _mark(answers, pair, Answer.NOT_TOGETHER)
        for name in (*chosen.refused, *self._failed):
            for other in labels:
                _mark(answers, frozenset((name, other)), Answer.NOT_POSSIBLE)
        return Tried(tuple((question_of(*item), item[0]) for item in self._attempts), answers,
                     self._failed,
                     {name: round(value, 1) for name, value in self._seconds.items()})

    def _round(self, part: Round) -> None:
        leaving = self._ends(part.labels)
        new = [name for name in part.labels if name not in self._vms and name not in self._failed]
        # The slower ones first: they boot while the others are built.
        new.sort(key=lambda name: self._type(name) == "pv")
        twins = [name for name in part.labels
                 if name in self._twins and frozenset((name,)) in part.pairs]
        wanted = [(name, f"try-{name}", self._type(name)) for name in new]
        wanted += [(name, f"{_TWIN}{name}", "pv") for name in twins]
        began = time.monotonic()
        said = self._perform([*leaving, *(self._begin(*item) for item in wanted)])
        self._seconds["starting"] += time.monotonic() - began
        for name, vm, _ in wanted:
            if why := said.get(_config_of(vm), ""):
                self._failed.setdefault(name, why)
                self._running.remove(name)
            else:
                self._vms.setdefault(name, vm)
                self._ours.setdefault(name, []).append(vm)
        here = [name for name in part.labels if name in self._vms]
        pairs = [(a, self._vms[a], b, self._vms[b]) for a in here for b in here
                 if a != b and frozenset((a, b)) in part.pairs]
        for name in twins:
            if name not in self._failed:
                one, other = self._vms[name], f"{_TWIN}{name}"
                pairs += [(name, one, name, other), (name, other, name, one)]
        self._try(pairs)

    def _type(self, name: LabelName) -> str:
        """PVH for whoever may receive by Argo, since a PV guest cannot have a ring."""
        receives = any(self._server.permits(other, name, Operation.ARGO_SEND)
                       for other in self._manifest.labels if other != name or name in self._twins)
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
        """How many more labels there is memory for, twins of them considered."""
        places = AT_ONCE
        for line in self._lab.run(["xl", "info"]).out.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "free_memory":
                places = int(value) // (MEMORY + _OVERHEAD)
        return max(2, min(AT_ONCE, places - min(len(self._twins), places // 2)))

    def _begin(self, name: LabelName, vm: str, type: str) -> Mapping[str, object]:
        """What starts a guest (`shype.lab.dom0.startup`), with the wall as it is then."""
        context = self._manifest.labels[name].context
        self._lab.put(_config_of(vm), config(vm, type=type, seclabel=context))
        wall = self._wall()
        self._running.append(name)
        return {"create": _config_of(vm), "open": {**self._manifest.window_values(name), **wall},
                "close": {**self._manifest.window_values(None), **self._wall()}}

    def _ends(self, staying: Collection[LabelName]) -> list[Mapping[str, object]]:
        """What ends the guests that we started, but for those of labels that stay."""
        steps: list[Mapping[str, object]] = []
        for name in [name for name in self._ours if name not in staying]:
            del self._vms[name]
            for vm in self._ours.pop(name):
                self._running.remove(name)
                steps.append({"destroy": vm, "close": self._wall()})
        return steps

    def _wall(self) -> dict[str, bool]:
        """The booleans of the wall's members, by who runs."""
        held = {member for name in self._running
                for member in self._server.policy.labels[name].members}
        return {boolean: member in held
                for member, boolean in self._manifest.booleans.running.items()}

    def _perform(self, steps: Sequence[Mapping[str, object]]) -> Mapping[str, str]:
        if not steps:
            return {}
        done = self._lab.run([*probe.ENVIRONMENT, "python3", "-m", "shype.lab.dom0.startup",
                              json.dumps(steps)], _START * len(steps))
        try:
            return {str(name): str(why) for name, why in json.loads(done.out).items()}
        except (ValueError, AttributeError) as error:
            raise Unavailable("lab.startup", f"dom0 could not start guests: "
                              f"{(done.err or done.out).strip()[-600:]}") from error

    def _try(self, pairs: Sequence[tuple[LabelName, str, LabelName, str]]) -> None:
        if not pairs:
            return
        began = time.monotonic()
        labels = {(a, b): (x, y) for x, a, y, b in pairs}
        for attempt in probe.probe_pairs(self._lab.run, list(labels), WAYS, boot=_BOOT):
            # A twin is a PV guest, which boots faster: it sends to rings and has none.
            if attempt.mechanism is not Way.ARGO or not attempt.target.startswith(_TWIN):
                self._attempts.append((attempt, *labels[attempt.source, attempt.target]))
        self._seconds["trying"] += time.monotonic() - began


def _config_of(vm: str) -> str:
    return f"/run/verify/{vm}.cfg"


def question_of(attempt: Attempt, source: LabelName, target: LabelName) -> Question:
    """Who acts on whom in an attempt to bring something from ``source`` to ``target``."""
    way = attempt.mechanism
    return (*((target, source) if way.pulled else (source, target)), way.operation)


def answers_of(
    attempts: Iterable[tuple[Attempt, LabelName, LabelName]]
) -> Iterable[tuple[Question, Answer]]:
    """Each question that was tried; attempts that do not say the same make an error."""
    found: dict[Question, Answer] = {}
    for attempt, source, target in attempts:
        question = question_of(attempt, source, target)
        said = _ANSWERS[attempt.result]
        found[question] = said if found.get(question, said) is said else Answer.ERROR
    return found.items()


def _mark(answers: dict[Question, Answer], pair: Pair, why: Answer) -> None:
    """Nothing of this pair is tried, and why."""
    names = sorted(pair)
    for a, b in {(names[0], names[-1]), (names[-1], names[0])}:
        for way in WAYS:
            answers.setdefault((a, b, way.operation), why)
