"""Rules about coalitions, walls and the labels that name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shype.policy import grammar
from shype.policy.draft import Ref
from shype.policy.findings import Id, error, show, warning
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def coalitions_are_declared(case: Case) -> Iterator[Finding]:
    """A label's coalitions are declared under ``coalitions``."""
    if not case.draft.coalitions:
        return  # missing, unreadable or empty: the structure's findings say so
    for label in (case.draft.labels or {}).values():
        plain = [ref for ref in label.coalitions if ref.text != grammar.ALL]
        yield from case.undeclared(
            plain, case.draft.coalitions, Id.COALITION_UNDECLARED, "coalition", "coalitions"
        )


def all_is_a_reserved_word(case: Case) -> Iterator[Finding]:
    """``all`` stands for every coalition: it names none, and stands alone, not in a list."""
    declared = (case.draft.coalitions or {}).get(grammar.ALL)
    if declared is not None:
        yield error(
            Id.NAME_RESERVED, declared.name.span,
            "no coalition can be named `all`, the word for every coalition",
            "choose another name",
        )
    for label in (case.draft.labels or {}).values():
        for ref in label.coalitions:
            if ref.text == grammar.ALL:
                yield error(
                    Id.NAME_RESERVED, ref.span,
                    "`all` stands for every coalition and not in a list",
                    "write `coalitions: all`, or name the coalitions",
                )


def all_is_for_privileged_labels(case: Case) -> Iterator[Finding]:
    """Only dom0's label and driver domains' labels have ``coalitions: all``."""
    draft = case.draft
    if draft.dom0 is None or draft.drivers is None:
        return
    privileged = {draft.dom0.text, *(ref.text for ref in draft.drivers)}
    if not privileged <= (draft.labels or {}).keys() - {UNLABELED}:
        return  # a misspelled label of the host is one mistake, and another rule tells it
    for label in (draft.labels or {}).values():
        if label.everything is not None and label.name.text not in privileged:
            yield error(
                Id.COALITION_ALL, label.everything.span,
                f"the label {show(label.name.text)} has all coalitions, but it is neither dom0's "
                "nor a driver domain's",
                "name the coalitions it needs, or add the label to `host.drivers`",
            )


def members_are_declared(case: Case) -> Iterator[Finding]:
    """A label's wall members, and a tombstone's, belong to a conflict set under ``walls``."""
    if case.draft.walls is None:
        return
    members = case.draft.walls_of
    draft = case.draft
    for held in (
        *(label.members for label in draft.carried), *(tomb.members for tomb in draft.retired),
    ):
        yield from case.undeclared(
            held, members, Id.WALL_UNDECLARED_MEMBER, "wall member", "walls"
        )


def no_label_conflicts_with_itself(case: Case) -> Iterator[Finding]:
    """No label holds two members of one conflict set: its VMs could never start."""
    common = _Common(case.draft.walls_of)
    for label in case.draft.carried:
        for first, ref, clash in common.clashes(label.members):
            line = (case.draft.walls or {})[clash].name.span.line
            yield error(
                Id.WALL_SELF_CONFLICT, ref.span,
                f"the label {show(label.name.text)} conflicts with itself: {show(first.text)} and "
                f"{show(ref.text)} are both members of the conflict set {show(clash)} "
                f"(line {line}), so that its VMs could never start",
                f"keep one of the two, or split {show(label.name.text)} into two labels",
            )


class _Common:
    """Walls that members have in common."""

    #: A label with more members is looked at wall by wall, not pair by pair.
    _FEW = 16

    def __init__(self, walls_of: Mapping[str, Iterable[str]]) -> None:
        self._walls_of = {member: dict.fromkeys(walls) for member, walls in walls_of.items()}
        self._known: dict[tuple[str, str], str | None] = {}

    def clashes(self, members: Sequence[Ref]) -> Iterator[tuple[Ref, Ref, str]]:
        """An earlier member, a member, and a wall of both, for each member that has one."""
        known = [ref for ref in members if ref.text in self._walls_of]
        few = len(known) <= self._FEW
        holder: dict[str, Ref] = {}
        for i, ref in enumerate(known):
            if few:
                pairs = ((other, self._wall(other.text, ref.text)) for other in known[:i])
                found = next(((other, wall) for other, wall in pairs if wall is not None), None)
            else:
                walls = self._walls_of[ref.text]
                clash = next(
                    (w for w in walls if holder.setdefault(w, ref).text != ref.text), None
                )
                found = None if clash is None else (holder[clash], clash)
            if found is not None:
                yield found[0], ref, found[1]

    def _wall(self, a: str, b: str) -> str | None:
        """Each pair once: members of many walls can stand in many labels."""
        if (a, b) not in self._known:
            few, many = sorted((self._walls_of[a], self._walls_of[b]), key=len)
            first = next((wall for wall in few if wall in many), None)
            self._known[a, b] = None if a == b else first
        return self._known[a, b]


def coalitions_are_used(case: Case) -> Iterator[Finding]:
    """A coalition that no label but dom0's names lets nobody share anything."""
    draft = case.draft
    dom0 = draft.dom0.text if draft.dom0 is not None else None
    used = {
        ref.text
        for label in (draft.labels or {}).values() if label.name.text != dom0
        for ref in label.coalitions
    }
    for guard in draft.guards.values():
        used |= {ref.text for ref in (guard.source, guard.sink) if ref is not None}
    for coalition in (draft.coalitions or {}).values():
        if coalition.name.text not in used:
            yield warning(
                Id.COALITION_UNUSED, coalition.name.span,
                f"no VM's label names the coalition {show(coalition.name.text)}",
                "name it in a label, or delete it",
            )


def members_are_used(case: Case) -> Iterator[Finding]:
    """A wall member that no label holds never excludes anything."""
    used = {ref.text for label in case.draft.carried for ref in label.members}
    for wall in (case.draft.walls or {}).values():
        for ref in wall.members:
            if ref.text not in used:
                yield warning(
                    Id.WALL_UNUSED_MEMBER, ref.span,
                    f"no label holds {show(ref.text)}, a member of the conflict set "
                    f"{show(wall.name.text)}",
                    "add it to the `wall` of a label, or delete it",
                )


def write_up_has_a_meaning(case: Case) -> Iterator[Finding]:
    """Without levels nothing is up or down."""
    draft = case.draft
    if draft.levels is not None or draft.integrity is not None:
        return
    for coalition in (draft.coalitions or {}).values():
        if coalition.write_up is not None:
            yield warning(
                Id.COALITION_WRITE_UP, coalition.write_up.span,
                f"`write-up` of the coalition {show(coalition.name.text)} means nothing: the "
                "policy has no levels",
                "delete it, or declare `levels`",
            )


RULES: tuple[Rule, ...] = (
    coalitions_are_declared,
    all_is_a_reserved_word,
    all_is_for_privileged_labels,
    members_are_declared,
    no_label_conflicts_with_itself,
)
ADVICE: tuple[Rule, ...] = (
    coalitions_are_used,
    members_are_used,
    write_up_has_a_meaning,
)
