"""The meaning of a policy: one rule of the language, one function.

A rule looks at the draft and yields what breaks it.  Rules do not depend on
each other, so that one mistake is one finding: where a section cannot be read
at all, nothing is said about references into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from shype.policy import grammar
from shype.policy.draft import Draft, Ref
from shype.policy.findings import Id, error, show, warning
from shype.policy.names import UNLABELED
from shype.policy.source import Finding
from shype.policy.suggest import Suggester


@dataclass(frozen=True, slots=True)
class _Case:
    """What rules look at."""

    draft: Draft
    suggest: Suggester = field(default_factory=Suggester)

    def undeclared(
        self, refs: Collection[Ref], declared: Collection[str], id: Id, kind: str, where: str
    ) -> Iterator[Finding]:
        """A finding for each of ``refs`` that is not among the ``declared`` names."""
        for ref in refs:
            if ref.text not in declared:
                yield error(
                    id, ref.span, f"the {kind} {show(ref.text)} is not declared",
                    self.suggest.fix(ref.text, declared, f"declare it under `{where}`"),
                )


def errors(draft: Draft) -> list[Finding]:
    """Every breach of a rule in ``draft``."""
    case = _Case(draft)
    return [finding for rule in RULES for finding in rule(case)]


def warnings(draft: Draft) -> list[Finding]:
    """What is legal in ``draft`` and yet probably not meant. ``draft`` must have no errors."""
    case = _Case(draft)
    return [finding for rule in ADVICE for finding in rule(case)]


def coalitions_are_declared(case: _Case) -> Iterator[Finding]:
    """A label's coalitions are declared under ``coalitions``."""
    if not case.draft.coalitions:
        return  # missing, unreadable or empty: the structure's findings say so
    for label in (case.draft.labels or {}).values():
        plain = [ref for ref in label.coalitions if ref.text != grammar.ALL]
        yield from case.undeclared(
            plain, case.draft.coalitions, Id.COALITION_UNDECLARED, "coalition", "coalitions"
        )


def all_is_a_reserved_word(case: _Case) -> Iterator[Finding]:
    """``all`` stands for every coalition: it names none, and stands alone, not in a list."""
    declared = (case.draft.coalitions or {}).get(grammar.ALL)
    if declared is not None:
        yield error(
            Id.NAME_RESERVED, declared.span,
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


def all_is_for_privileged_labels(case: _Case) -> Iterator[Finding]:
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


def members_are_declared(case: _Case) -> Iterator[Finding]:
    """A label's wall members belong to a conflict set under ``walls``."""
    if case.draft.walls is None:
        return
    members = case.draft.walls_of
    for label in (case.draft.labels or {}).values():
        yield from case.undeclared(
            label.members, members, Id.WALL_UNDECLARED_MEMBER, "wall member", "walls"
        )


def no_label_conflicts_with_itself(case: _Case) -> Iterator[Finding]:
    """No label holds two members of one conflict set: its VMs could never start."""
    walls_of = case.draft.walls_of
    for label in (case.draft.labels or {}).values():
        holder: dict[str, Ref] = {}
        known = [ref for ref in label.members if ref.text in walls_of]
        for ref in known if len(known) > 1 else ():
            walls = walls_of[ref.text]
            clash = next((w for w in walls if holder.setdefault(w, ref).text != ref.text), None)
            if clash is None:
                continue
            first, line = holder[clash], (case.draft.walls or {})[clash][0].span.line
            yield error(
                Id.WALL_SELF_CONFLICT, ref.span,
                f"the label {show(label.name.text)} conflicts with itself: {show(first.text)} and "
                f"{show(ref.text)} are both members of the conflict set {show(clash)} "
                f"(line {line}), so that its VMs could never start",
                f"keep one of the two, or split {show(label.name.text)} into two labels",
            )


def dom0_has_a_declared_label(case: _Case) -> Iterator[Finding]:
    """dom0's label is declared under ``labels``."""
    dom0, labels = case.draft.dom0, case.draft.labels
    if dom0 is not None and labels is not None and dom0.text != UNLABELED:
        yield from case.undeclared(
            [dom0], labels, Id.HOST_DOM0_UNDECLARED, "label of dom0,", "labels"
        )


def dom0_is_labelled(case: _Case) -> Iterator[Finding]:
    """dom0's label is not ``unlabeled``, which is what VMs without a label get."""
    dom0 = case.draft.dom0
    if dom0 is not None and dom0.text == UNLABELED:
        yield error(
            Id.HOST_DOM0_UNLABELED, dom0.span,
            "dom0 cannot have the label `unlabeled`: VMs without a label would get it too",
            "declare a label for dom0 alone and name it here",
        )


def dom0_is_behind_no_wall(case: _Case) -> Iterator[Finding]:
    """dom0's label has no wall members: dom0 always runs and would exclude others for ever."""
    dom0 = case.draft.dom0
    label = (case.draft.labels or {}).get(dom0.text) if dom0 is not None else None
    if label is not None and label.members:
        yield error(
            Id.HOST_DOM0_WALL, label.members[0].span,
            f"dom0's label {show(label.name.text)} has wall members; dom0 always runs, so that "
            "whatever conflicts with it could never start",
            "delete `wall` from this label",
        )


def drivers_have_declared_labels(case: _Case) -> Iterator[Finding]:
    """Driver domains' labels are declared under ``labels``."""
    if case.draft.labels is not None:
        refs = [ref for ref in case.draft.drivers or () if ref.text != UNLABELED]
        yield from case.undeclared(
            refs, case.draft.labels, Id.HOST_DRIVER_UNDECLARED, "label of a driver domain,",
            "labels",
        )


def drivers_are_vms_of_their_own(case: _Case) -> Iterator[Finding]:
    """A driver domain's label is neither dom0's nor ``unlabeled``."""
    dom0 = case.draft.dom0
    for ref in case.draft.drivers or ():
        if dom0 is not None and ref.text == dom0.text:
            yield error(
                Id.HOST_DRIVER_DOM0, ref.span,
                f"{show(ref.text)} is dom0's label and cannot be a driver domain's as well",
                "delete it here: dom0 serves devices anyway",
            )
        elif ref.text == UNLABELED:
            yield error(
                Id.HOST_DRIVER_UNLABELED, ref.span,
                "`unlabeled` cannot be a driver domain's label: VMs without a label would get its "
                "coalitions",
                "declare a label for the driver domain and name it here",
            )


def vms_have_declared_labels(case: _Case) -> Iterator[Finding]:
    """A VM is assigned to a label that is declared under ``labels``."""
    if case.draft.labels is not None:
        refs = [label for _, label in case.draft.vms.values()]
        yield from case.undeclared(
            refs, case.draft.labels, Id.VM_UNDECLARED_LABEL, "label", "labels"
        )


def no_vm_has_dom0s_label(case: _Case) -> Iterator[Finding]:
    """No VM is assigned to dom0's label."""
    dom0 = case.draft.dom0
    for vm, label in case.draft.vms.values():
        if dom0 is not None and label.text == dom0.text:
            yield error(
                Id.VM_DOM0_LABEL, label.span,
                f"the VM {show(vm.text)} cannot have {show(label.text)}, the label of dom0",
                "give the VM a label of its own",
            )


def dom0_is_no_vm(case: _Case) -> Iterator[Finding]:
    """dom0 is not assigned a label under ``vms`` (Xen names it ``Domain-0``)."""
    for vm, _ in case.draft.vms.values():
        if vm.text == "Domain-0":
            yield error(
                Id.VM_DOM0, vm.span, "`Domain-0` is dom0, and its label stands under `host.dom0`",
                "delete this line and set `host.dom0`",
            )


def uuids_are_in_lower_case(case: _Case) -> Iterator[Finding]:
    """A UUID is written as the toolstack prints it, so that comparing text compares UUIDs."""
    for vm, _ in case.draft.vms.values():
        if grammar.is_uuid(vm.text) and vm.text != vm.text.lower():
            yield error(
                Id.VM_ID, vm.span, f"the UUID {show(vm.text)} is not in lower case",
                f"write {vm.text.lower()}",
            )


def coalitions_are_used(case: _Case) -> Iterator[Finding]:
    """A coalition that no label but dom0's names lets nobody share anything."""
    draft = case.draft
    dom0 = draft.dom0.text if draft.dom0 is not None else None
    used = {
        ref.text
        for label in (draft.labels or {}).values() if label.name.text != dom0
        for ref in label.coalitions
    }
    for ref in (draft.coalitions or {}).values():
        if ref.text not in used:
            yield warning(
                Id.COALITION_UNUSED, ref.span,
                f"no VM's label names the coalition {show(ref.text)}",
                "name it in a label, or delete it",
            )


def members_are_used(case: _Case) -> Iterator[Finding]:
    """A wall member that no label holds never excludes anything."""
    used = {ref.text for label in (case.draft.labels or {}).values() for ref in label.members}
    for wall, members in (case.draft.walls or {}).values():
        for ref in members:
            if ref.text not in used:
                yield warning(
                    Id.WALL_UNUSED_MEMBER, ref.span,
                    f"no label holds {show(ref.text)}, a member of the conflict set "
                    f"{show(wall.text)}",
                    "add it to the `wall` of a label, or delete it",
                )


def dom0_may_run_every_label(case: _Case) -> Iterator[Finding]:
    """dom0 may run a label only if dom0's own label has all of that label's coalitions."""
    draft = case.draft
    labels = draft.labels or {}
    boss = labels.get(draft.dom0.text) if draft.dom0 is not None else None
    if boss is None or boss.everything is not None:
        return
    allowed = {ref.text for ref in boss.coalitions}
    lacking_of_all = [name for name in draft.coalitions or {} if name not in allowed]
    for label in labels.values():
        lacking = [ref.text for ref in label.coalitions if ref.text not in allowed]
        if label.everything is not None:
            lacking = lacking_of_all
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            yield warning(
                Id.LABEL_NOT_AUTHORIZED, label.name.span,
                f"dom0 may not run {show(label.name.text)}: dom0's label {show(boss.name.text)} "
                f"lacks the coalition {show(lacking[0])}{more}",
                f"give {show(boss.name.text)} `coalitions: all`, or accept that this host never "
                f"runs {show(label.name.text)}",
            )


def vms_are_not_named_like_other_labels(case: _Case) -> Iterator[Finding]:
    """A VM's name that is a label's too means two things to `shype explain` (label.ambiguous)."""
    for vm, label in case.draft.vms.values():
        if vm.text in (case.draft.labels or {}) and vm.text != label.text:
            yield warning(
                Id.VM_NAMED_LIKE_LABEL, vm.span,
                f"the VM {show(vm.text)} has the label {show(label.text)}, and there is a label "
                f"{show(vm.text)} too",
                f"rename one of them, or ask about {show('label:' + vm.text)} and "
                f"{show('vm:' + vm.text)}",
            )


_Rule = Callable[[_Case], Iterator[Finding]]

RULES: tuple[_Rule, ...] = (
    coalitions_are_declared,
    all_is_a_reserved_word,
    all_is_for_privileged_labels,
    members_are_declared,
    no_label_conflicts_with_itself,
    dom0_has_a_declared_label,
    dom0_is_labelled,
    dom0_is_behind_no_wall,
    drivers_have_declared_labels,
    drivers_are_vms_of_their_own,
    vms_have_declared_labels,
    no_vm_has_dom0s_label,
    dom0_is_no_vm,
    uuids_are_in_lower_case,
)
ADVICE: tuple[_Rule, ...] = (
    coalitions_are_used,
    members_are_used,
    dom0_may_run_every_label,
    vms_are_not_named_like_other_labels,
)
