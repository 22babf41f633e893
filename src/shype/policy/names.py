"""Ids of the policy language, one NewType each, so that mypy keeps them apart."""

from __future__ import annotations

from typing import NewType

#: A VM label: what a VM carries.
LabelName = NewType("LabelName", str)
#: A coalition, in the literature an STE type: labels that share one may exchange information.
CoalitionName = NewType("CoalitionName", str)
#: A Chinese Wall conflict set.
WallName = NewType("WallName", str)
#: A member of conflict sets, in the literature a CHWALL type.
MemberName = NewType("MemberName", str)
#: A sensitivity of a lattice: one of its ordered names.
SensitivityName = NewType("SensitivityName", str)
#: A category of a lattice: one of its unordered names.
CategoryName = NewType("CategoryName", str)
#: A label of resources; the name space is not that of VM labels.
ResourceLabelName = NewType("ResourceLabelName", str)
#: A VM's name or UUID, as the hypervisor's tools show it.
VmId = NewType("VmId", str)
#: A configuration vector: which labels may start while it is in force.
VectorName = NewType("VectorName", str)
#: A verifier: who appraises hosts by their evidence.
VerifierName = NewType("VerifierName", str)

#: The label of VMs to which neither policy nor configuration gives one.
UNLABELED = LabelName("unlabeled")
#: The label of resources to which no entry of the policy gives one.
UNLABELED_RESOURCE = ResourceLabelName("unlabeled")
