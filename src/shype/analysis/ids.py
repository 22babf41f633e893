"""Ids of what `shype plan` finds; docs/reference/plan-findings.md explains each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shype.policy.names import LabelName
from shype.policy.source import Span


class PlanId(StrEnum):
    """What stands against an update, or follows from it. The values are stable."""

    NAME = "plan.name"
    FROM = "plan.from"
    VERSION = "plan.version"
    WAS_UNKNOWN = "plan.was-unknown"
    WAS_TAKEN = "plan.was-taken"
    ASSERTION = "plan.assertion"
    GUARD_EXPIRED = "plan.guard-expired"
    GUARD_EXPIRES = "plan.guard-expires"
    DOM0_LEVELS = "plan.dom0-levels"
    WINDOW_OPEN = "plan.window-open"
    LABEL_UNKNOWN = "plan.label-unknown"
    LABEL_LOST = "plan.label-lost"
    LABEL_RETIRED = "plan.label-retired"
    LABEL_REVIVED = "plan.label-revived"
    LEVEL_CHANGED = "plan.level-changed"
    LEVEL_RENUMBERED = "plan.level-renumbered"
    TRUST_CHANGED = "plan.trust-changed"
    UNLOCKED = "plan.unlocked"
    NOT_AUTHORIZED = "plan.not-authorized"
    WALL_VIOLATED = "plan.wall-violated"
    WALL_FORGOTTEN = "plan.wall-forgotten"
    WALL_BOOLEAN = "plan.wall-boolean"
    ASSIGNMENT = "plan.assignment"
    CHANNEL = "plan.channel"
    CHANNEL_POSSIBLE = "plan.channel-possible"
    RESOURCE = "plan.resource"
    NOT_KNOWN = "plan.not-known"


class Weight(StrEnum):
    """What a finding means for the verdict, the lightest first."""

    NOTE = "note"  # good to know
    REVOKE = "revoke"  # the update can be applied, and something must be taken back
    STOP = "stop"  # the update cannot be applied while it is so


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of a plan: a sentence, the fix, the places in OLD and NEW that it follows from.

    ``vms``: the running domains that it is about, as (domain id, name).
    ``labels``: the labels that it is about, by their names in OLD.
    ``conditional``: it holds if a VM carries one of ``labels``, which is not known.
    """

    id: PlanId
    weight: Weight
    sentence: str
    fix: str
    places: tuple[Span, ...] = ()
    vms: tuple[tuple[int, str], ...] = ()
    labels: tuple[LabelName, ...] = ()
    conditional: bool = False

    def to_json(self) -> dict[str, object]:
        """Shape of a finding in ``shype plan --json``."""
        return {
            "id": self.id, "weight": self.weight, "sentence": self.sentence, "fix": self.fix,
            "places": [str(span) for span in self.places],
            "vms": [{"domid": domid, "vm": vm} for domid, vm in self.vms],
            "labels": list(self.labels), "conditional": self.conditional,
        }
