"""The bundle against the policy that the hypervisor has loaded, question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shype.base.errors import Unavailable
from shype.decision.security_server import SecurityServer
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary
from shype.host.verify.oracle import Asked, Compiled, Loaded, Oracle, Verdicts
from shype.host.verify.table import (
    OPERATIONS,
    Count,
    Difference,
    Row,
    Side,
    answer,
    counts,
)
from shype.policy.manifest import Manifest
from shype.policy.names import LabelName

#: How often to begin again when somebody changes a boolean meanwhile.
_ATTEMPTS = 5
_BOTH = (Side.BINARY, Side.LOADED)


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked and what differs; ``booleans`` are the values under which it was.

    ``evidence``: the guests' attempts behind answers that differ from another side's.
    """

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    finer: Mapping[tuple[Side, Side], int]
    booleans: Mapping[str, bool]
    evidence: tuple[Mapping[str, object], ...] = ()

    @property
    def counts(self) -> tuple[Count, ...]:
        """For every pair of sides."""
        return counts(self.rows, self.differences, self.finer)

    @property
    def different(self) -> bool:
        """Whether any two sides differ anywhere."""
        return bool(self.differences) or any(row.different for row in self.rows)

    def to_json(self, *, every: bool) -> dict[str, object]:
        """Shape in ``--json`` output; without ``every``, only rows that differ."""
        return {
            "different": self.different,
            "compared": [count.to_json() for count in self.counts],
            "differences": [difference.to_json() for difference in self.differences],
            "rows": [row.to_json() for row in self.rows if every or row.different],
            "finer": [
                [a.value, b.value, number] for (a, b), number in self.finer.items()],
            "booleans": dict(self.booleans),
            "evidence": [dict(attempt) for attempt in self.evidence],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Report:
        """The inverse of ``to_json(every=True)``.

        Raises KeyError, ValueError or TypeError for anything else.
        """
        return Report(
            tuple(Row.from_json(row) for row in value["rows"]),
            tuple(Difference.from_json(item) for item in value["differences"]),
            {(Side(a), Side(b)): int(number) for a, b, number in value["finer"]},
            {str(name): bool(here) for name, here in value["booleans"].items()},
            tuple(dict(attempt) for attempt in value["evidence"]),
        )


def compiled(server: SecurityServer, manifest: Manifest, binary: Binary) -> tuple[Row, ...]:
    """Every operation between two VM labels: the source's answer and the binary's."""
    rows = Verdicts(Compiled(Answers(binary, {})), binary, _manager(server, manifest))
    return tuple(_rows(server, manifest, {Side.BINARY: rows}))


def loaded(
    server: SecurityServer, manifest: Manifest, binary: Binary, asked: Asked,
    boolean: Callable[[str], bool | None], *, enforcing: bool,
) -> Report:
    """The same with the hypervisor's answers, and all access vectors besides.

    Conditional rules are compared under the booleans' present values; if they change
    meanwhile, all is asked again.  Raises Unavailable (``host.changing``, ``host.flask``).
    """
    for _ in range(_ATTEMPTS):
        values = {name: boolean(name) for name in binary.booleans}
        oracle = Loaded(asked, binary)
        report = _compared(server, manifest, binary, oracle, values, enforcing)
        if len(oracle.sequences) <= 1 and values == {n: boolean(n) for n in values}:
            return report
    raise Unavailable(
        "host.changing", "the hypervisor's policy or booleans changed while it was asked",
        "wait until no VM is being started, and verify again",
    )


def _compared(
    server: SecurityServer, manifest: Manifest, binary: Binary, oracle: Loaded,
    values: Mapping[str, bool | None], enforcing: bool,
) -> Report:
    here = {name: value for name, value in values.items() if value is not None}
    mine = Compiled(Answers(binary, here))
    found = [
        Difference("policy", "", f"boolean {name}", {Side.BINARY: "there", Side.LOADED: "missing"})
        for name, value in values.items() if value is None
    ]
    if not enforcing:
        found.append(Difference("hypervisor", "", "FLASK mode",
                                {Side.BINARY: "enforcing", Side.LOADED: "permissive"}))
    vectors = _Vectors(server, manifest, binary, mine, oracle)
    found += vectors.differences()
    manager = _manager(server, manifest)
    rows = tuple(_rows(server, manifest, {
        Side.BINARY: Verdicts(mine, binary, manager),
        Side.LOADED: Verdicts(oracle, binary, manager),
    }))
    return Report(rows, tuple(found), {_BOTH: vectors.asked + len(values) + 1}, here)


def _manager(server: SecurityServer, manifest: Manifest) -> str | None:
    """The context of the manager. A health check may be of fewer labels than the policy has."""
    label = server.policy.host.manager
    entry = None if label is None else manifest.labels.get(label)
    return None if entry is None else entry.context


def _rows(
    server: SecurityServer, manifest: Manifest, sides: Mapping[Side, Verdicts]
) -> Iterator[Row]:
    for x, subject in manifest.labels.items():
        for y, object in manifest.labels.items():
            for operation in OPERATIONS:
                decision = server.decide(x, y, operation)
                answers = {Side.SOURCE: answer(decision.permitted)}
                for side, verdicts in sides.items():
                    answers[side] = answer(
                        verdicts.permits(subject.context, object.context, operation))
                yield Row((x, y, operation), answers, tuple(map(str, decision.rules)))


class _Vectors:
    """Every context on every context, in every class; and what new objects are labelled."""

    def __init__(
        self, server: SecurityServer, manifest: Manifest, binary: Binary, mine: Oracle,
        theirs: Oracle,
    ) -> None:
        self._server, self._binary, self._mine, self._theirs = server, binary, mine, theirs
        self._labels = {entry.context: name for name, entry in manifest.labels.items()}
        self._labels[manifest.dom0.context] = manifest.dom0.label
        self.asked = 0

    def differences(self) -> Iterator[Difference]:
        """All of them."""
        text = Answers(self._binary, {}).text
        parties = dict.fromkeys([
            *self._labels, *map(text, self._binary.sids), *map(text, self._binary.objects)])
        for context in list(parties):
            self.asked += 1
            written = self._theirs.written(context)
            if written is None:
                del parties[context]
            if written != context:
                yield self._difference(context, "", "context", context, written or "unknown")
        here = [context for context in self._labels if context in parties]
        ends = dict.fromkeys(self._ends(here))
        for context in here:
            yield from self._created(context, context, "domain")
            parties.setdefault(self._mine.created(context, context, "domain") or context)
        for source in parties:
            for target in parties:
                for cls in self._binary.classes:
                    yield from self._vector(source, target, cls)
        # Event channels: who opens one, on what it is bound to, who notifies on it.
        for owner, end, peer in ends:
            yield from self._created(owner, peer, "event")
            yield from self._vector(owner, end, "event")
            yield from self._vector(end, peer, "event")

    def _ends(self, here: list[str]) -> Iterator[tuple[str, str, str]]:
        for owner in here:
            for peer in here:
                yield owner, self._mine.created(owner, peer, "event") or "", peer

    def _created(self, source: str, target: str, cls: str) -> Iterator[Difference]:
        self.asked += 1
        one, other = (o.created(source, target, cls) for o in (self._mine, self._theirs))
        if one != other:
            yield self._difference(source, target, f"context of a new {cls}", str(one), str(other))

    def _vector(self, source: str, target: str, cls: str) -> Iterator[Difference]:
        self.asked += 1
        one, other = (o.allowed(source, target, cls) for o in (self._mine, self._theirs))
        if other is None:
            yield self._difference(source, target, f"class {cls}", "known", "unknown context")
        elif one != other:
            entry = self._binary.classes[cls]
            for permission in sorted(entry.names((one or 0) ^ other)):
                has = permission in entry.names(one or 0)
                yield self._difference(
                    source, target, f"{cls} {{ {permission} }}",
                    "permit" if has else "deny", "deny" if has else "permit",
                )

    def _difference(
        self, source: str, target: str, what: str, binary: str, loaded: str
    ) -> Difference:
        return Difference(
            self._labels.get(source, source), self._labels.get(target, target), what,
            {Side.BINARY: binary, Side.LOADED: loaded}, self._rules(source, target),
        )

    def _rules(self, *contexts: str) -> tuple[str, ...]:
        """Where the labels are written."""
        found = (self._labels.get(context) for context in contexts)
        labels: list[LabelName] = [label for label in found if label is not None]
        return tuple(dict.fromkeys(str(self._server.policy.labels[name].span) for name in labels))
