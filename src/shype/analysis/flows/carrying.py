"""Which way information moves when an operation is permitted, by mechanism."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from shype.decision.ids import PERMISSIONS
from shype.decision.operation import Flow, Operation
from shype.decision.sharing import AccessVector
from shype.policy.mechanism import Mechanism

#: The mechanisms for which both ends must run at the same time, on one host: the hypervisor
#: itself carries them, or the daemon of that host's XenStore. Disks keep what is written, and
#: networks leave the host.
TOGETHER = frozenset({
    Mechanism.EVENT, Mechanism.GRANT, Mechanism.ARGO, Mechanism.XENSTORE, Mechanism.FOREIGN,
})


def onward(operation: Operation) -> bool:
    """Whether it moves information from its subject to its object.

    A notification does, and nothing comes back by it: the event channel is
    two-way, but each way needs a permission of its own.
    """
    if operation in (Operation.EVENT_SEND, Operation.FOREIGN_MAP):
        return True
    return operation is not Operation.CONTROL and not operation.from_object


def backward(operation: Operation) -> bool:
    """Whether it moves information from its object to its subject.

    Of the two-way operations a writable mapping, a shared disk and a foreign
    mapping do so by themselves.
    """
    if operation is Operation.FOREIGN_MAP:
        return True
    return operation.from_object or (
        operation.flow is Flow.BOTH and operation is not Operation.EVENT_SEND
    )


@lru_cache(4096)
def carried(vector: AccessVector) -> Mapping[tuple[Mechanism, bool], tuple[Operation, ...]]:
    """What of an access vector carries information: by mechanism, and whether towards the object.

    Without entries for what nothing permits.
    """
    found: dict[tuple[Mechanism, bool], tuple[Operation, ...]] = {}
    for operation, id in zip(Operation, vector, strict=True):
        if id not in PERMISSIONS:
            continue
        for ahead, moves in ((True, onward), (False, backward)):
            if moves(operation):
                key = operation.mechanism, ahead
                found[key] = (*found.get(key, ()), operation)
    return found
