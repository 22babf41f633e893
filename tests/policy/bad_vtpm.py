"""Wrong policies with TPMs for VMs, one for each kind of label that has none."""

from __future__ import annotations

from shype.policy.findings import Id
from tests.policy.bad_policy import Bad

CASES = (
    Bad(Id.VTPM_HOST, "boss: {coalitions: all}", "boss: {coalitions: all, vtpm: true}",
        7, 27, "dom0's label", "delete `vtpm`"),
    Bad(Id.VTPM_HOST, "unlabeled: {}", "unlabeled: {vtpm: true}", 10, 15, "without a label",
        "delete `vtpm`"),
    Bad(Id.VTPM_HOST, "host: {dom0: boss", "  keeper: {locked: true, vtpm: true}\n"
        "host: {manager: keeper, dom0: boss", 11, 26, "the manager's label", "delete `vtpm`"),
)
