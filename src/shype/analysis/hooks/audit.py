"""The audit: one row per operation, with the checks that dominate it or the reason for none."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from shype.analysis.hooks.domination import DIRECT, Walk
from shype.analysis.hooks.effects import Effects, lasting
from shype.analysis.hooks.operations import Operation, operations
from shype.analysis.hooks.permissions import MISTAKEN, UNKNOWN, Permissions
from shype.analysis.hooks.states import Check, Effect, Summary
from shype.analysis.hooks.tree import Tree


class Verdict(enum.Enum):
    """What was found for an operation."""

    MEDIATED = "mediated"
    PARTLY = "partly"  # some effects are reached without the check, or before it
    UNMEDIATED = "unmediated"
    ABSENT = "absent"  # the headers define it, no code handles it


class When(enum.Enum):
    """When the check happens."""

    EACH_USE = "each use"
    SET_UP = "set-up"  # what the operation sets up is used later without this check
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """One operation. Places are relative to ``xen/``; ``place`` is that of its case.

    ``checks``: those that dominate every effect (for PARTLY: that some way passes).
    ``open``: effects that no check dominates. ``silent``: hooks on the way in which FLASK asks
    nothing for this operation. ``ignored``: hooks whose answer nobody reads. ``lasting``: what
    stays in use without a further check. ``reason``: why none is needed, from the allow-list.
    """

    operation: Operation
    place: tuple[Path, int] | None
    verdict: Verdict
    when: When
    checks: tuple[Check, ...]
    open: tuple[Effect, ...]
    silent: tuple[Check, ...]
    ignored: tuple[Check, ...]
    lasting: tuple[str, ...]
    reason: str

    @property
    def permissions(self) -> tuple[str, ...]:
        """FLASK ``class.permission``, of all the checks."""
        return tuple(sorted({each for check in self.checks for each in check.permissions}))

    @property
    def remark(self) -> str:
        """What is wrong with the permission itself, in a sentence; empty if nothing is."""
        if UNKNOWN in self.permissions:
            return "FLASK has no permission for it: refused, or permitted to all by a policy " \
                   "that permits what it does not know"
        if any(MISTAKEN in each for each in self.permissions):
            return "FLASK asks for the permission of another class that has the same number"
        return ""

    @property
    def finding(self) -> bool:
        """Whether somebody has to look at it: not mediated, and nobody said why; or a remark."""
        open = self.verdict in (Verdict.PARTLY, Verdict.UNMEDIATED) and not self.reason
        return open or bool(self.remark)


@cache
def _allowed() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    entries = json.loads((resources.files(__package__) / "allowed.json").read_text())
    return tuple((re.compile(entry["operations"]), entry["kind"], entry["reason"])
                 for entry in entries)


def allowed(name: str, verdict: Verdict) -> tuple[str, str]:
    """Kind and reason: why operation ``name`` may have that verdict; both empty if it may not.

    Kind ``none`` there: no check is needed. Kind ``covered``: there is a check, and the ways
    around it were looked at; it excuses no operation that has none at all.
    """
    for pattern, kind, reason in _allowed():
        if pattern.fullmatch(name) and (kind == "none" or verdict is Verdict.PARTLY):
            return kind, reason
    return "", ""


def audit(
    path: Path, arch: str = "x86", only: Callable[[Operation], bool] = lambda _: True
) -> tuple[Tree, tuple[Row, ...]]:
    """All operations of the tree at ``path`` for which ``only`` holds, in order of the headers.

    Raises BadInput (``hooks.no-tree``, ``hooks.no-xsm``, ``hooks.no-entry``).
    """
    tree = Tree(path, arch)
    permissions, effects = Permissions(tree), Effects(tree)
    checks = {f"xsm_{hook}" for hook in tree.hooks} | DIRECT
    reaching = tree.reaching(checks)
    rows = []
    for operation in operations(tree):
        if only(operation):
            rows.append(_row(tree, permissions, effects, reaching, operation))
    return tree, tuple(rows)


def _row(
    tree: Tree, permissions: Permissions, effects: Effects, reaching: frozenset[str],
    operation: Operation,
) -> Row:
    entry = tree.definitions.get(operation.family.entry)
    if not entry:
        return Row(operation, None, Verdict.ABSENT, When.NONE, (), (), (), (), (), "")
    words = [operation.name] if operation.family.prefix else []
    name = operation.name if words else operation.family.under or operation.name
    walk = Walk(tree, permissions, effects, name,
                reaching | tree.reaching(words), operation.family.under)
    summary = walk.summary(max(entry, key=lambda each: len(each.text)))
    place = walk.handled
    if not operation.family.prefix:
        place = (entry[0].file, entry[0].line)
    if place is None:
        return Row(operation, None, Verdict.ABSENT, When.NONE, (), (), (), (), (), "")
    if reason := lasting(operation.name):
        walk.lasting.add(reason)
    verdict, checks, free = _judge(summary)
    when = When.NONE
    kind, reason = ("", "") if verdict is Verdict.MEDIATED else allowed(operation.name, verdict)
    if kind == "none":
        checks = frozenset()
    if verdict is Verdict.MEDIATED or kind == "covered":
        when = When.SET_UP if walk.lasting else When.EACH_USE
    return Row(
        operation, place, verdict, when, tuple(sorted(checks)), free,
        tuple(sorted(walk.silent)), tuple(sorted(walk.ignored)), tuple(sorted(walk.lasting)),
        reason,
    )


def _judge(summary: Summary) -> tuple[Verdict, frozenset[Check], tuple[Effect, ...]]:
    """Verdict, checks, unguarded effects."""
    free = tuple(effect for effect in summary.effects if not effect.state.guarded)
    guarded = [effect for effect in summary.effects if effect.state.guarded]
    some = frozenset(check for effect in summary.effects for check in effect.state.may)
    if summary.end is not None:
        some |= summary.end.may
    if not summary.effects:
        if summary.end is not None and summary.end.guarded:
            return Verdict.MEDIATED, summary.end.must or some, ()
        return (Verdict.PARTLY if some else Verdict.UNMEDIATED), some, ()
    if not free:
        common = frozenset.intersection(*(effect.state.must for effect in guarded))
        return Verdict.MEDIATED, common or frozenset(
            check for effect in guarded for check in effect.state.may), ()
    if guarded:
        some = frozenset.intersection(*(effect.state.must for effect in guarded)) or some
    return (Verdict.PARTLY if some else Verdict.UNMEDIATED), some, free
