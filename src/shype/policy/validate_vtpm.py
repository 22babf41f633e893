"""The rule about labels whose VMs have a TPM of their own."""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy.findings import Id, error, show
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def tpms_are_for_vms_with_a_label(case: Case) -> Iterator[Finding]:
    """dom0 serves the TPMs and has the host's own; the manager is no toolstack's VM; and without a
    label there is nothing to which a TPM could be bound."""
    own = {
        ref.text: f"{what}, whose VM is part of the host" for ref, what in
        ((case.draft.dom0, "dom0's label"), (case.draft.manager, "the manager's label"))
        if ref is not None
    }
    own[UNLABELED] = "what VMs without a label carry, which is no owner for a TPM"
    for label in case.draft.carried:
        if label.vtpm is not None and label.name.text in own:
            yield error(
                Id.VTPM_HOST, label.vtpm.span,
                f"{show(label.name.text)} is {own[label.name.text]}: it has no TPM of its own",
                "delete `vtpm` here",
            )


RULES: tuple[Rule, ...] = (tpms_are_for_vms_with_a_label,)
