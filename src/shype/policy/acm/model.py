"""An ACM policy as its files say it: names with places, before any of it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shype.policy.source import Span

#: The label and type of what has no label (xen/include/public/xsm/acm.h).
UNLABELED = "__UNLABELED__"


class Generation(StrEnum):
    """The forms that ACM's policies had, by the time from which they were used."""

    SPECIFICATION = "2005-06"  # SecurityPolicySpec: domain ids, VLANs and slots
    TWO_FILES = "2005-08"  # a policy, and a template with the labels
    MERGED = "2006"  # one file, without a version
    VERSIONED = "2007"  # one file with a version, to the end


@dataclass(frozen=True, slots=True)
class Name:
    """A name at a place, exactly as the file spells it."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflict set (run-time exclusion rule). 2006 and earlier: possibly without a name."""

    name: Name | None
    members: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SubjectLabel:
    """A VM's label. ``was`` is its name in the policy that this one replaces (``@from``)."""

    name: Name
    ste: tuple[Name, ...]
    chwall: tuple[Name, ...]
    was: Name | None = None


@dataclass(frozen=True, slots=True)
class ObjectLabel:
    """A resource's label."""

    name: Name
    ste: tuple[Name, ...]
    was: Name | None = None


@dataclass(frozen=True, slots=True)
class AcmPolicy:
    """All that the files say. A component (``ste``, ``chwall``) is None if it is not there."""

    generation: Generation
    span: Span
    name: Name | None
    version: Name | None
    from_name: Name | None
    from_version: Name | None
    ste: tuple[Name, ...] | None
    chwall: tuple[Name, ...] | None
    conflicts: tuple[Conflict, ...]
    bootstrap: Name | None
    subjects: tuple[SubjectLabel, ...]
    objects: tuple[ObjectLabel, ...]
