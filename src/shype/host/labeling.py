"""Which label a VM gets: the policy's word first, then its configuration's."""

from __future__ import annotations

from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.security_server import unknown_label
from shype.host.hypervisor import VmConfig
from shype.host.ids import HostId
from shype.policy.manifest import Manifest
from shype.policy.model import Assignment, Policy
from shype.policy.names import UNLABELED, LabelName


@dataclass(frozen=True, slots=True)
class Labelling:
    """A label and remarks on how it came about; or a refusal, and then no label."""

    label: LabelName | None
    refusal: Decision | None = None
    notices: tuple[str, ...] = ()


def label_for(vm: VmConfig, policy: Policy, manifest: Manifest | None) -> Labelling:
    """The label of a VM. Without a ``manifest`` no security context stands for a label.

    Raises BadInput: ``label.unknown`` for a ``seclabel`` that is neither a label nor a
    context of the policy, ``label.ambiguous`` if the policy assigns two.
    """
    found = _label_for(vm, policy, manifest)
    label = None if found.label is None else policy.labels.get(found.label)
    if vm.hvm and label is not None and label.locked:
        return Labelling(None, Decision(
            False, HostId.LABEL_HVM,
            f"{vm.name} may not start as {label.name}: the label is locked, and an HVM guest has "
            "a device model in dom0, which must reach its memory; a PV or PVH guest has none.",
            (label.span,),
        ), found.notices)
    return found


def _label_for(vm: VmConfig, policy: Policy, manifest: Manifest | None) -> Labelling:
    if vm.init_seclabel is not None:
        return Labelling(None, Decision(
            False, HostId.LABEL_RELABEL,
            f"{vm.name} may not start: its configuration sets init_seclabel, and the policy "
            "never lets a VM change its label.",
            (policy.host.span,),
        ))
    if vm.device_model_seclabel is not None:
        return Labelling(None, Decision(
            False, HostId.LABEL_DEVICE_MODEL,
            f"{vm.name} may not start: its configuration puts its device model into a domain of "
            "its own (device_model_stubdomain_seclabel), which would control the VM, and the "
            "policy lets only dom0 do that.",
            (policy.host.span,),
        ))
    own = None if vm.seclabel is None else _parse(vm.seclabel, policy, manifest)
    assigned = _assigned(vm, policy)
    if assigned is not None:
        notices: tuple[str, ...] = ()
        if own is not None and own != assigned.label:
            notices = (
                f"the configuration of {vm.name} says {own}, the policy says {assigned.label} "
                f"({assigned.span}): the policy's word counts",
            )
        return Labelling(assigned.label, notices=notices)
    if own is not None:
        return Labelling(own)
    if policy.unlabeled is not None:
        return Labelling(UNLABELED, notices=(
            f"{vm.name} has no label; it gets {UNLABELED} ({policy.unlabeled.span})",
        ))
    return Labelling(None, Decision(
        False, HostId.LABEL_NONE,
        f"{vm.name} may not start: neither the policy ({policy.source}, under vms:) nor its "
        f"configuration (seclabel=) gives it a label, and the policy has no label {UNLABELED}.",
        (policy.host.span,),
    ))


def _parse(seclabel: str, policy: Policy, manifest: Manifest | None) -> LabelName:
    if seclabel in policy.labels or seclabel in policy.retired:
        return LabelName(seclabel)
    if ":" not in seclabel:
        raise unknown_label(seclabel, policy.labels)
    label = manifest.label_of_context(seclabel) if manifest is not None else None
    if label is None:
        raise BadInput(
            "label.unknown", f"the security context {seclabel!r} stands for no label of the policy",
            "write the label's name: seclabel=\"NAME\"",
        )
    return label


def _assigned(vm: VmConfig, policy: Policy) -> Assignment | None:
    uuid = vm.uuid.lower()
    found = [a for a in policy.assignments.values() if a.vm == vm.name or a.vm.lower() == uuid]
    if len({a.label for a in found}) > 1:
        both = " and ".join(f"{a.label} ({a.span})" for a in found)
        raise BadInput(
            "label.ambiguous", f"the policy gives {vm.name} two labels, by name and UUID: {both}",
            "remove one of the assignments",
        )
    return found[0] if found else None
