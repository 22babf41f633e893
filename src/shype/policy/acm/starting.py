"""Who may start beside whom: where the ACM's Chinese Wall is not what a wall of shype can say.

Three cases.  A label without STE types: dom0 shares none with it, so the ACM
did not authorize it.  dom0 in a conflict set: dom0 always runs, so whoever it
excludes never starts.  A label with two types of one conflict set: the ACM
decided by the order of starts; here its types become one member that excludes,
in either order, whom the ACM excluded in one.
"""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.meaning import Meaning, Subject
from shype.policy.acm.model import UNLABELED
from shype.policy.findings import show
from shype.policy.source import Finding


class Starting:
    """What keeps labels from starting.

    ``excluding``: the types that are in any conflict set.  ``never``: labels
    that can never start beside dom0.  ``merged``: sets of types that a label
    holds against itself, and a name for each.
    """

    def __init__(self, meaning: Meaning) -> None:
        self._sets = [conflict.members for conflict in meaning.conflicts]
        self._clashes: dict[frozenset[str], frozenset[str]] = {}
        self._sets_of: dict[str, list[int]] = {}
        for index, members in enumerate(self._sets):
            for t in members:
                self._sets_of.setdefault(t, []).append(index)
        self._meaning = meaning
        self.findings: list[Finding] = []
        self.excluding = frozenset(t for members in self._sets for t in members)
        self.merged: dict[frozenset[str], str] = {}
        for subject in self._guests():
            clash = self._clash(subject.chwall)
            if clash:
                self.merged[clash] = " and ".join(sorted(clash))
                self._tell_clash(subject, clash)
        self.never = frozenset(self._excluded_for_ever()) | frozenset(self._not_authorized())

    @property
    def merged_names(self) -> list[str]:
        return list(self.merged.values())

    def members(self, chwall: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """A row's types that stay as they are, and those that become one member (or none)."""
        clash = self._clash(chwall)
        return (chwall & self.excluding) - clash, clash

    def _guests(self) -> Iterator[Subject]:
        """The labels that VMs have; the one without a label too, even if dom0 has it."""
        dom0 = self._meaning.dom0
        for subject in self._meaning.subjects:
            name = subject.name.text
            if dom0 is None or name != dom0.name.text or name == UNLABELED:
                yield subject

    def _clash(self, chwall: frozenset[str]) -> frozenset[str]:
        """All types of the row that are in a conflict set together with another of them."""
        known = self._clashes.get(chwall)
        if known is None:
            known = self._clashes[chwall] = frozenset(
                t for index in self._clashing(chwall) for t in self._sets[index] & chwall
            )
        return known

    def _clashing(self, chwall: frozenset[str]) -> list[int]:
        """The conflict sets of which the row holds two types or more."""
        held: dict[int, int] = {}
        for t in chwall:
            for index in self._sets_of.get(t, ()):
                held[index] = held.get(index, 0) + 1
        return sorted(index for index, count in held.items() if count > 1)

    def _tell_clash(self, subject: Subject, clash: frozenset[str]) -> None:
        first = self._clashing(subject.chwall)[0]
        name = show(self._meaning.conflicts[first].name.text)
        some = [show(t) for t in sorted(clash)[:3]]
        types = " and ".join([*some, "others"] if len(clash) > len(some) else some)
        self.findings.append(error(
            Id.SELF_CONFLICT, subject.name.span,
            f"the label {show(subject.name.text)} has {types}, which exclude each other (conflict "
            f"set {name}): with ACM its VMs started before those of the others and not "
            f"after them; now `{self.merged[clash]}` is a member of its own, and neither starts "
            "beside the other, in either order", "split it into labels that hold one of them each",
        ))

    def _excluded_for_ever(self) -> Iterator[str]:
        dom0 = self._meaning.dom0
        mine = dom0.chwall if dom0 is not None else frozenset[str]()
        excluded = frozenset(
            t for members in self._sets if members & mine for t in members - mine
        )
        for subject in self._guests():
            if subject.chwall & excluded:
                assert dom0 is not None
                self.findings.append(warning(
                    Id.DOM0_WALL, subject.name.span,
                    f"the label {show(subject.name.text)} can never start: it has "
                    f"{show(min(subject.chwall & excluded))}, which a conflict set separates from "
                    f"what dom0's label {show(dom0.name.text)} has, and dom0 always runs",
                    "take dom0's type out of the conflict set, or delete the label",
                ))
                yield subject.name.text

    def _not_authorized(self) -> Iterator[str]:
        """Labels that share no type with dom0, dom0 having all of their none."""
        if self._meaning.open_sharing:
            return
        dom0 = self._meaning.dom0
        said = not self._meaning.ste
        for subject in self._guests():
            if not subject.ste:
                if not said:
                    self.findings.append(warning(
                        Id.NO_TYPES, subject.name.span,
                        f"the label {show(subject.name.text)} has no STE types: it shares with "
                        "nobody, and dom0, with which it would have to share one, may not run it",
                        "give it a type, or delete it",
                    ))
                yield subject.name.text
            elif dom0 is not None and subject.ste - dom0.ste:
                self.findings.append(warning(
                    Id.NOT_AUTHORIZED, subject.name.span,
                    f"dom0 may not run the label {show(subject.name.text)}: dom0's label "
                    f"{show(dom0.name.text)} lacks the type "
                    f"{show(min(subject.ste - dom0.ste))} (Xen asked for it from 2007-07 on)",
                    f"give {show(dom0.name.text)} the type, or accept that it never runs",
                ))
