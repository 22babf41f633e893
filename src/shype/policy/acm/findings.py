"""The ids of everything that can be found in an ACM policy; docs/reference/acm.md has each.

Ids are stable.  An error means that the file was wrong: the tools of its time
refused it, or took it for something else than it says.  A warning means that
it left something unsaid.  Both are reported, and neither keeps it from being
imported so that it permits no more than the ACM did.
"""

from __future__ import annotations

from enum import StrEnum

from shype.policy.source import Finding, Severity, Span


class Id(StrEnum):
    """Stable ids: the XML's structure, its meaning, and what does not come along."""

    NAMESPACE = "acm.namespace"
    UNKNOWN_ELEMENT = "acm.unknown-element"
    UNKNOWN_ATTRIBUTE = "acm.unknown-attribute"
    STRAY_TEXT = "acm.stray-text"
    ORDER = "acm.order"
    REPEATED = "acm.repeated"
    MISSING = "acm.missing"
    PRIORITY = "acm.priority"
    TEMPLATE_POLICY = "acm.template-policy"

    NO_VERSION = "acm.no-version"
    BAD_VERSION = "acm.bad-version"
    NO_NAME = "acm.no-name"
    COLON = "acm.colon"
    FROM_VERSION = "acm.from-version"
    FROM_NAME = "acm.from-name"

    NO_STE = "acm.no-ste"
    NO_CHWALL = "acm.no-chwall"
    DUPLICATE_TYPE = "acm.duplicate-type"
    UNDECLARED_TYPE = "acm.undeclared-type"
    NO_TYPES = "acm.no-types"
    RESOURCE_TYPES = "acm.resource-types"
    DUPLICATE_LABEL = "acm.duplicate-label"
    CONFLICT_UNNAMED = "acm.conflict-unnamed"
    CONFLICT_MEMBER = "acm.conflict-member"
    CONFLICT_SMALL = "acm.conflict-small"
    SELF_CONFLICT = "acm.self-conflict"

    NO_BOOTSTRAP = "acm.no-bootstrap"
    BOOTSTRAP_UNLABELED = "acm.bootstrap-unlabeled"
    NOT_AUTHORIZED = "acm.not-authorized"
    DOM0_WALL = "acm.dom0-wall"
    UNLABELED_RESOURCE = "acm.unlabeled-resource"
    NAME_COLLISION = "acm.name-collision"

    EXPORT_LEVELS = "acm.export-levels"
    EXPORT_GUARD = "acm.export-guard"
    EXPORT_MECHANISMS = "acm.export-mechanisms"
    EXPORT_NO_COALITION = "acm.export-no-coalition"
    EXPORT_RESOURCE = "acm.export-resource"
    EXPORT_ASSIGNMENT = "acm.export-assignment"
    EXPORT_RETIRED = "acm.export-retired"
    EXPORT_RENAME = "acm.export-rename"
    EXPORT_UNLABELED = "acm.export-unlabeled"


def error(id: Id, span: Span, message: str, fix: str) -> Finding:
    """The file was wrong."""
    return Finding(str(id), span, message, fix)


def warning(id: Id, span: Span, message: str, fix: str) -> Finding:
    """The file left something unsaid, or something of it does not come along."""
    return Finding(str(id), span, message, fix, Severity.WARNING)
