"""Rules about dom0, driver domains and the VMs that have labels."""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy import grammar
from shype.policy.findings import Id, error, show, warning
from shype.policy.model import Updates
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def dom0_has_a_declared_label(case: Case) -> Iterator[Finding]:
    """dom0's label is declared under ``labels``."""
    dom0, labels = case.draft.dom0, case.draft.labels
    if dom0 is None or labels is None or dom0.text in case.draft.guards:
        return  # a guard as dom0 is another mistake
    if dom0.text != UNLABELED:
        yield from case.undeclared(
            [dom0], labels, Id.HOST_DOM0_UNDECLARED, "label of dom0,", "labels"
        )


def dom0_is_labelled(case: Case) -> Iterator[Finding]:
    """dom0's label is not ``unlabeled``, which is what VMs without a label get."""
    dom0 = case.draft.dom0
    if dom0 is not None and dom0.text == UNLABELED:
        yield error(
            Id.HOST_DOM0_UNLABELED, dom0.span,
            "dom0 cannot have the label `unlabeled`: VMs without a label would get it too",
            "declare a label for dom0 alone and name it here",
        )


def dom0_is_behind_no_wall(case: Case) -> Iterator[Finding]:
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


def dom0_is_not_locked(case: Case) -> Iterator[Finding]:
    """dom0's label is not ``locked``: that keeps dom0 itself away from a VM."""
    dom0 = case.draft.dom0
    label = (case.draft.labels or {}).get(dom0.text) if dom0 is not None else None
    if label is not None and label.locked is not None:
        yield error(
            Id.HOST_DOM0_LOCKED, label.locked.span,
            f"dom0's label {show(label.name.text)} is locked, which keeps dom0 out of the VMs that "
            "carry a label; none carries this one",
            "delete `locked` here, and write it at the labels of the VMs",
        )


def object_managers_are_chosen(case: Case) -> Iterator[Finding]:
    """Neither dom0's label nor the one that VMs get by default is an object manager."""
    dom0 = case.draft.dom0
    whose: dict[str, str] = {UNLABELED: "VMs get it by default, and every one of them could ask"}
    if dom0 is not None:
        whose[dom0.text] = "it is dom0's, which serves VMs by its own rules and has no peers"
    for name, why in whose.items():
        label = (case.draft.labels or {}).get(name)
        if label is not None and label.object_manager is not None:
            yield error(
                Id.HOST_OBJECT_MANAGER, label.object_manager.span,
                f"the label {show(name)} is an object manager, which asks about its peers: {why}",
                "delete `object-manager` here, and write it at the label of the VM that serves",
            )


def drivers_have_declared_labels(case: Case) -> Iterator[Finding]:
    """Driver domains' labels are declared under ``labels``."""
    if case.draft.labels is not None:
        others = {UNLABELED, *case.draft.guards}
        refs = [ref for ref in case.draft.drivers or () if ref.text not in others]
        yield from case.undeclared(
            refs, case.draft.labels, Id.HOST_DRIVER_UNDECLARED, "label of a driver domain,",
            "labels",
        )


def drivers_are_vms_of_their_own(case: Case) -> Iterator[Finding]:
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


def the_manager_is_alone(case: Case) -> Iterator[Finding]:
    """The manager's label is a declared one of its own: locked, in no coalition, behind no wall."""
    draft, ref = case.draft, case.draft.manager
    if ref is None or draft.labels is None:
        return
    label = draft.labels.get(ref.text)
    taken = {UNLABELED: "`unlabeled`", **dict.fromkeys(draft.guards, "a guard's")}
    taken |= {driver.text: "a driver domain's" for driver in draft.drivers or ()}
    taken |= {draft.dom0.text: "dom0's"} if draft.dom0 is not None else {}
    problem = ""
    if ref.text in taken:
        problem = f"is {taken[ref.text]}"
    elif label is None:
        problem = "is not declared under `labels`"
    elif label.locked is None:
        problem = "is not locked, so that dom0 could reach into it"
    elif label.coalitions or label.everything or label.members:
        problem = "has coalitions or a wall, and the manager shares with nobody"
    elif draft.static is not None:
        problem = "is of no use in a static policy, whose vectors it does not know"
    if problem:
        yield error(
            Id.HOST_MANAGER, ref.span, f"the manager's label {show(ref.text)} {problem}",
            "declare a label for the manager alone: `{locked: true}`"
            if draft.static is None else "delete `manager` or `static`",
        )


def vms_have_declared_labels(case: Case) -> Iterator[Finding]:
    """A VM is assigned to a label that is declared under ``labels``."""
    if case.draft.labels is not None:
        refs = [label for _, label in case.draft.vms.values()]
        yield from case.undeclared(
            refs, case.vm_labels, Id.VM_UNDECLARED_LABEL, "label", "labels"
        )


def no_vm_has_dom0s_label(case: Case) -> Iterator[Finding]:
    """No VM is assigned to dom0's label."""
    dom0 = case.draft.dom0
    for vm, label in case.draft.vms.values():
        if dom0 is not None and label.text == dom0.text:
            yield error(
                Id.VM_DOM0_LABEL, label.span,
                f"the VM {show(vm.text)} cannot have {show(label.text)}, the label of dom0",
                "give the VM a label of its own",
            )


def dom0_is_no_vm(case: Case) -> Iterator[Finding]:
    """dom0 is not assigned a label under ``vms`` (Xen names it ``Domain-0``)."""
    for vm, _ in case.draft.vms.values():
        if vm.text == "Domain-0":
            yield error(
                Id.VM_DOM0, vm.span, "`Domain-0` is dom0, and its label stands under `host.dom0`",
                "delete this line and set `host.dom0`",
            )


def uuids_are_in_lower_case(case: Case) -> Iterator[Finding]:
    """A UUID is written as the toolstack prints it, so that comparing text compares UUIDs."""
    for vm, _ in case.draft.vms.values():
        if grammar.is_uuid(vm.text) and vm.text != vm.text.lower():
            yield error(
                Id.VM_ID, vm.span, f"the UUID {show(vm.text)} is not in lower case",
                f"write {vm.text.lower()}",
            )


def static_policies_are_not_updated_live(case: Case) -> Iterator[Finding]:
    """Nothing of a static policy changes on a running host, the policy itself least of all."""
    updates = case.draft.updates
    if updates is not None and updates.text == Updates.LIVE and case.draft.static is not None:
        yield error(
            Id.HOST_STATIC_LIVE, updates.span,
            "the policy is static, and `updates: live` lets a running host load another one",
            "delete `static` or `updates: live`",
        )


def revocation_is_of_live_updates(case: Case) -> Iterator[Finding]:
    """What an update does to flows that exist matters only where a running host is updated."""
    draft = case.draft
    live = draft.updates is not None and draft.updates.text == Updates.LIVE
    if draft.revocation is not None and not live:
        yield error(
            Id.HOST_REVOCATION_BOOT, draft.revocation.span,
            "`revocation` says what a live update does to VMs that run, and this policy is "
            "taken at boot, when none runs",
            "add `updates: live`, or delete `revocation`",
        )


def dom0_may_run_every_label(case: Case) -> Iterator[Finding]:
    """dom0 may run a label only if dom0's own label has all of that label's coalitions."""
    draft = case.draft
    labels = draft.labels or {}
    boss = labels.get(draft.dom0.text) if draft.dom0 is not None else None
    if boss is None or boss.everything is not None:
        return
    allowed = {ref.text for ref in boss.coalitions}
    lacking_of_all = [name for name in draft.coalitions or {} if name not in allowed]
    guarded = {
        name: [ref for ref in (guard.source, guard.sink) if ref is not None]
        for name, guard in draft.guards.items()
    }
    for label in draft.carried:
        needed = guarded.get(label.name.text, label.coalitions)
        lacking = [ref.text for ref in needed if ref.text not in allowed]
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


def vms_are_not_named_like_other_labels(case: Case) -> Iterator[Finding]:
    """A VM's name that is a label's too means two things to `shype explain` (label.ambiguous)."""
    names = case.vm_labels
    for vm, label in case.draft.vms.values():
        if vm.text in names and vm.text != label.text:
            yield warning(
                Id.VM_NAMED_LIKE_LABEL, vm.span,
                f"the VM {show(vm.text)} has the label {show(label.text)}, and there is a label "
                f"{show(vm.text)} too",
                f"rename one of them, or ask about {show('label:' + vm.text)} and "
                f"{show('vm:' + vm.text)}",
            )


RULES: tuple[Rule, ...] = (
    dom0_has_a_declared_label,
    dom0_is_labelled,
    dom0_is_behind_no_wall,
    dom0_is_not_locked,
    object_managers_are_chosen,
    drivers_have_declared_labels,
    drivers_are_vms_of_their_own,
    the_manager_is_alone,
    vms_have_declared_labels,
    no_vm_has_dom0s_label,
    dom0_is_no_vm,
    uuids_are_in_lower_case,
    static_policies_are_not_updated_live,
    revocation_is_of_live_updates,
)
ADVICE: tuple[Rule, ...] = (
    dom0_may_run_every_label,
    vms_are_not_named_like_other_labels,
)
