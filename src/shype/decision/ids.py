"""Ids of all decisions; docs/reference/decisions.md explains each."""

from __future__ import annotations

from enum import StrEnum


class DecisionId(StrEnum):
    """Why something is permitted or denied. The values are stable: programs may match on them."""

    STE_SHARED = "ste.shared"
    STE_DISJOINT = "ste.disjoint"
    MECHANISM_CLOSED = "mechanism.closed"
    MECHANISM_OFF = "mechanism.off"
    MLS_READ_UP = "mls.read-up"
    MLS_WRITE_DOWN = "mls.write-down"
    MLS_NOT_EQUAL = "mls.not-equal"
    MLS_WRITE_UP = "mls.write-up"
    BIBA_READ_DOWN = "biba.read-down"
    BIBA_WRITE_UP = "biba.write-up"
    BIBA_NOT_EQUAL = "biba.not-equal"
    BIBA_WRITE_DOWN = "biba.write-down"
    GUARD_PASSES = "guard.passes"
    GUARD_DIRECTION = "guard.direction"
    GUARD_CHAIN = "guard.chain"
    GUARD_EXPIRED = "guard.expired"
    LABEL_RETIRED = "label.retired"
    LABEL_LOCKED = "label.locked"
    HOST_ONLY = "host.only"
    HOST_NO_ARGO = "host.no-argo"
    HOST_NO_MAP = "host.no-map"
    HOST_SELF = "host.self"
    AUTH_DOM0 = "auth.dom0"
    AUTH_NOT_AUTHORIZED = "auth.not-authorized"
    AUTH_RESERVED = "auth.reserved"
    WALL_FREE = "wall.free"
    WALL_CONFLICT = "wall.conflict"
    VECTOR_ABSENT = "vector.absent"
    RESOURCE_SHARED = "resource.shared"
    RESOURCE_DISJOINT = "resource.disjoint"
    RESOURCE_INACCESSIBLE = "resource.inaccessible"
    RESOURCE_UNLABELED = "resource.unlabeled"


#: The ids of permissions; every other is a denial.
PERMISSIONS = frozenset({
    DecisionId.STE_SHARED, DecisionId.GUARD_PASSES, DecisionId.HOST_SELF, DecisionId.AUTH_DOM0,
    DecisionId.WALL_FREE, DecisionId.RESOURCE_SHARED,
})
