"""Ids of what is found by proving assertions; docs/reference/assertions.md explains each."""

from __future__ import annotations

from enum import StrEnum

from shype.policy.assertions import Kind


class AssertId(StrEnum):
    """A violated assertion, by its kind, or one that says less than it seems. Stable."""

    NEVER = "assert.never"
    ONLY_THROUGH = "assert.only-through"
    EXACTLY = "assert.exactly"
    LEVELS = "assert.levels-never-decrease"
    INTEGRITY = "assert.integrity-never-increases"
    REACHES = "assert.none-reaches-both"
    RECEIVES = "assert.none-receives-from-both"
    IDLE = "assert.idle"

    @classmethod
    def of(cls, kind: Kind) -> AssertId:
        """The id of a violation of ``kind``."""
        return cls(f"assert.{kind}")
