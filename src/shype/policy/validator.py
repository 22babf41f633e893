"""The meaning of a policy: one rule of the language, one function, grouped by what it is about."""

from __future__ import annotations

from datetime import date

from shype.policy import (
    validate_assertions,
    validate_attestation,
    validate_guards,
    validate_host,
    validate_labels,
    validate_levels,
    validate_quotas,
    validate_resources,
    validate_updates,
    validate_vectors,
    validate_vtpm,
)
from shype.policy.draft import Draft
from shype.policy.rules import Case
from shype.policy.source import Finding

RULES = (
    *validate_labels.RULES,
    *validate_levels.RULES,
    *validate_guards.RULES,
    *validate_resources.RULES,
    *validate_host.RULES,
    *validate_updates.RULES,
    *validate_vectors.RULES,
    *validate_attestation.RULES,
    *validate_quotas.RULES,
    *validate_vtpm.RULES,
    *validate_assertions.RULES,
)
ADVICE = (
    *validate_labels.ADVICE,
    *validate_guards.ADVICE,
    *validate_resources.ADVICE,
    *validate_host.ADVICE,
    *validate_vectors.ADVICE,
    *validate_attestation.ADVICE,
    *validate_quotas.ADVICE,
)


def errors(draft: Draft, today: date) -> list[Finding]:
    """Every breach of a rule in ``draft``, as of ``today``."""
    case = Case(draft, today)
    return [finding for rule in RULES for finding in rule(case)]


def warnings(draft: Draft, today: date) -> list[Finding]:
    """What is legal in ``draft`` and yet probably not meant. ``draft`` must have no errors."""
    case = Case(draft, today)
    return [finding for rule in ADVICE for finding in rule(case)]
