"""What the ACM would have decided by: sets of types, from a policy's words.

The rules are those of the module's last version (Xen 3.4 to 4.1) with its
tools; where tools of different years differed, or refused a file, the reading
is taken that permits less, and the finding says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.model import (
    AcmPolicy,
    Conflict,
    Generation,
    Name,
    ObjectLabel,
    SubjectLabel,
)
from shype.policy.findings import show
from shype.policy.source import Finding, Span


@dataclass(frozen=True, slots=True)
class Subject:
    """A VM's label: its rows in the two matrices."""

    name: Name
    ste: frozenset[str]
    chwall: frozenset[str]
    was: Name | None


@dataclass(frozen=True, slots=True)
class Object:
    """A resource's label: its row in the STE matrix."""

    name: Name
    ste: frozenset[str]
    was: Name | None


@dataclass(frozen=True, slots=True)
class ConflictSet:
    """A conflict set of at least two members. Several may have one name."""

    name: Name
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Meaning:
    """The matrices.

    ``dom0`` is the bootstrap label, None if there is none.  ``open_sharing``:
    there was no STE, so that everybody shared with everybody.
    """

    ste: tuple[Name, ...]
    chwall: tuple[Name, ...]
    conflicts: tuple[ConflictSet, ...]
    subjects: tuple[Subject, ...]
    objects: tuple[Object, ...]
    dom0: Subject | None
    open_sharing: bool


def understand(policy: AcmPolicy) -> tuple[Meaning, tuple[Finding, ...]]:
    """The meaning of ``policy``, and all that is wrong or unsaid in it."""
    case = _Case(policy)
    ste = case.declared(policy.ste or (), "SimpleTypeEnforcementTypes")
    chwall = case.declared(policy.chwall or (), "ChineseWallTypes")
    case.components()
    case.names()
    held = {name.text for label in policy.subjects for name in label.chwall}
    conflicts = case.conflict_sets({name.text for name in chwall}, held)
    chwall = (*chwall, *case.kept)
    known = {name.text for name in ste}
    subjects = case.subjects(known, {name.text for name in chwall})
    objects = case.objects(known)
    meaning = Meaning(
        ste, chwall, conflicts, subjects, objects, case.dom0(subjects), case.open_sharing
    )
    return meaning, tuple(case.findings)


@dataclass(slots=True)
class _Case:
    policy: AcmPolicy
    findings: list[Finding] = field(default_factory=list)
    #: CHWALL types that are not declared, and yet in a conflict set and in a label
    kept: tuple[Name, ...] = ()

    @property
    def open_sharing(self) -> bool:
        """Without STE the compiler of 2005 to 2007 put the NULL policy in its place."""
        return self.policy.ste is None and self.policy.generation is not Generation.VERSIONED

    def declared(self, names: Iterable[Name], where: str) -> tuple[Name, ...]:
        """The types of a component, each once."""
        first: dict[str, Name] = {}
        for name in names:
            before = first.setdefault(name.text, name)
            if before is not name:
                self.findings.append(error(
                    Id.DUPLICATE_TYPE, name.span,
                    f"the type {show(name.text)} stands in {where} a second time (first in line "
                    f"{before.span.line})", "delete one of them",
                ))
        return tuple(first.values())

    def components(self) -> None:
        """Both components are there."""
        span = self.policy.span
        if self.open_sharing:
            self.findings.append(warning(
                Id.NO_STE, span,
                "the policy has no SimpleTypeEnforcement, and in its time that meant that every "
                "VM may share with every other; so it does now",
                "give the labels coalitions in the new policy",
            ))
        elif self.policy.ste is None:
            self.findings.append(warning(
                Id.NO_STE, span,
                "the policy has no SimpleTypeEnforcement: with ACM's last compiler no VM shares "
                "with any other, dom0 included, so that none is authorized to run (the compiler "
                "before 2007-12 let everybody share with everybody)",
                "give the labels coalitions in the new policy",
            ))
        if self.policy.chwall is None:
            self.findings.append(warning(
                Id.NO_CHWALL, span,
                "the policy has no ChineseWall: no VM keeps another from starting (ACM's last "
                "compiler could not load such a policy)", "add `walls:` to the new policy",
            ))

    def names(self) -> None:
        """The names of policy and labels have no colon, which separated them from each other."""
        names = [label.name for label in self.policy.subjects]
        names += [label.name for label in self.policy.objects]
        if self.policy.name is not None:
            names.append(self.policy.name)
        for name in names:
            if ":" in name.text:
                self.findings.append(error(
                    Id.COLON, name.span,
                    f"{show(name.text)} has a colon, which ACM's tools refused in names",
                    "choose another name",
                ))

    def conflict_sets(self, declared: set[str], held: set[str]) -> tuple[ConflictSet, ...]:
        """The conflict sets that can exclude anybody; undeclared members count if labels do."""
        result, kept = [], dict[str, Name]()
        for number, conflict in enumerate(self.policy.conflicts, 1):
            members = {}
            for member in conflict.members:
                if member.text in members:
                    self._member(member, conflict, "stands in it twice", "delete one")
                elif member.text in declared or member.text in held:
                    members[member.text] = member
                    if member.text not in declared:
                        kept[member.text] = member
                        self._member(
                            member, conflict, "is not declared, and a label has it; it counts "
                            "(ACM refused such a label)", "declare it in ChineseWallTypes",
                        )
                else:
                    self._member(
                        member, conflict, "is not declared, so no label has it; it is left out "
                        "(ACM's last compiler did so without a word, the first refused the file)",
                        "declare it in ChineseWallTypes, or delete it",
                    )
            name = conflict.name or Name(f"conflict {number}", conflict.span)
            if conflict.name is None and self.policy.generation is not Generation.SPECIFICATION:
                self.findings.append(error(
                    Id.CONFLICT_UNNAMED, conflict.span,
                    f"a conflict set has no name; it becomes {show(name.text)}",
                    'give it one: <Conflict name="...">',
                ))
            if len(members) < 2:
                self.findings.append(warning(
                    Id.CONFLICT_SMALL, conflict.span,
                    f"the conflict set {show(name.text)} has "
                    f"{'no members' if not members else 'one member'}, so that it excludes "
                    "nobody; it is left out", "give it two members or more, or delete it",
                ))
            else:
                result.append(ConflictSet(name, frozenset(members)))
        self.kept = tuple(kept.values())
        return tuple(result)

    def _member(self, member: Name, conflict: Conflict, what: str, fix: str) -> None:
        name = show(conflict.name.text) if conflict.name else "without a name"
        self.findings.append(error(
            Id.CONFLICT_MEMBER, member.span,
            f"{show(member.text)} in the conflict set {name} {what}", fix,
        ))

    def subjects(self, ste: set[str], chwall: set[str]) -> tuple[Subject, ...]:
        """VM labels, each once, with declared types only."""
        merged: dict[str, Subject] = {}
        for label in self.policy.subjects:
            subject = Subject(
                label.name, self._row(label, label.ste, ste, self.policy.ste, "STE"),
                self._row(label, label.chwall, chwall, self.policy.chwall, "CHWALL"), label.was,
            )
            before = merged.get(label.name.text)
            if before is not None:
                same = (before.ste, before.chwall) == (subject.ste, subject.chwall)
                self._duplicate(label.name, before.name.span, same=same, walls=True)
                subject = Subject(
                    before.name, before.ste & subject.ste, before.chwall | subject.chwall,
                    before.was,
                )
            merged[label.name.text] = subject
        return tuple(merged.values())

    def objects(self, ste: set[str]) -> tuple[Object, ...]:
        """Resource labels, each once, with declared types only."""
        merged: dict[str, Object] = {}
        for label in self.policy.objects:
            thing = Object(
                label.name, self._row(label, label.ste, ste, self.policy.ste, "STE"), label.was
            )
            if len(thing.ste) > 1 and self.policy.generation is Generation.VERSIONED:
                self.findings.append(warning(
                    Id.RESOURCE_TYPES, label.name.span,
                    f"the resource label {show(label.name.text)} has {len(thing.ste)} types, and "
                    "since 2007 it may have one; all of them count",
                    "split it into one label for each type",
                ))
            before = merged.get(label.name.text)
            if before is not None:
                self._duplicate(
                    label.name, before.name.span, same=before.ste == thing.ste, walls=False
                )
                thing = Object(before.name, before.ste & thing.ste, before.was)
            merged[label.name.text] = thing
        return tuple(merged.values())

    def _duplicate(self, name: Name, before: Span, *, same: bool, walls: bool) -> None:
        how = "alike" if same else (
            "differently; it gets the STE types that both give it"
            + (", and the Chinese Wall types of either" if walls else "")
        )
        self.findings.append(error(
            Id.DUPLICATE_LABEL, name.span,
            f"the label {show(name.text)} is defined a second time (first in line {before.line}), "
            f"{how} (ACM refused such a policy)", "keep one of them",
        ))

    def _row(
        self, label: SubjectLabel | ObjectLabel, types: Sequence[Name], declared: set[str],
        component: Sequence[Name] | None, kind: str,
    ) -> frozenset[str]:
        row: set[str] = set()
        for name in types:
            if component is None:
                continue  # said once, for the whole component
            if name.text in row:
                self.findings.append(error(
                    Id.DUPLICATE_TYPE, name.span,
                    f"the label {show(label.name.text)} has the type {show(name.text)} twice",
                    "delete one of them",
                ))
            elif name.text in declared:
                row.add(name.text)
            else:
                self.findings.append(error(
                    Id.UNDECLARED_TYPE, name.span,
                    f"the label {show(label.name.text)} has the {kind} type {show(name.text)}, "
                    "which is not declared; it is left out (ACM refused such a policy)",
                    "declare it, or delete it here",
                ))
        return frozenset(row)

    def dom0(self, subjects: Sequence[Subject]) -> Subject | None:
        """The bootstrap label: dom0's, because the module's row 1 was dom0's."""
        name = self.policy.bootstrap
        found = next((s for s in subjects if name is not None and s.name.text == name.text), None)
        if found is None:
            what = "there is no bootstrap label" if name is None else (
                f"the bootstrap label {show(name.text)} is not defined"
            )
            self.findings.append(error(
                Id.NO_BOOTSTRAP, name.span if name is not None else self.policy.span,
                f"{what} (ACM refused such a policy); dom0 gets a label without types, so that it "
                "may run no VM", "name dom0's label: <SubjectLabels bootstrap=\"...\">",
            ))
        return found
