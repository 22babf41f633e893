"""Ids of all decisions; docs/reference/decisions.md explains each."""

from __future__ import annotations

from enum import StrEnum


class DecisionId(StrEnum):
    """Why something is permitted or denied. The values are stable: programs may match on them."""

    STE_SHARED = "ste.shared"
    STE_DISJOINT = "ste.disjoint"
    HOST_ONLY = "host.only"
    HOST_NO_ARGO = "host.no-argo"
    HOST_SELF = "host.self"
    AUTH_DOM0 = "auth.dom0"
    AUTH_NOT_AUTHORIZED = "auth.not-authorized"
    AUTH_RESERVED = "auth.reserved"
    WALL_FREE = "wall.free"
    WALL_CONFLICT = "wall.conflict"
