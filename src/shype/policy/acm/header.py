"""The policy's name and versions, in shype's spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.model import AcmPolicy, Name
from shype.policy.acm.names import fold
from shype.policy.findings import show
from shype.policy.source import Finding

#: The schema's pattern, in which the dot stands for any character.
_VERSION = re.compile(r"([0-9]{1,8})(.)([0-9]{1,8})", re.DOTALL)
#: The version of a policy that has none: lower than the first that users give.
NO_VERSION = "0.1"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands under ``policy:``, and what was found."""

    name: str
    note: str
    version: str
    replaces: str | None
    was: str | None
    findings: tuple[Finding, ...]


def read(policy: AcmPolicy) -> Header:
    """The header of ``policy``."""
    findings: list[Finding] = []
    name = policy.name.text if policy.name is not None else ""
    if policy.name is None:
        findings.append(error(
            Id.NO_NAME, policy.span, "the policy has no name; it becomes `imported`",
            "give it one: <PolicyName>",
        ))
    version, own = NO_VERSION, _version(policy.version, findings)
    if policy.version is None:
        findings.append(warning(
            Id.NO_VERSION, policy.span,
            f"the policy says no version; it becomes {NO_VERSION}, so that every later one is "
            "higher", "set `version` in the new policy",
        ))
    elif own is not None:
        version = f"{own[0]}.{own[1]}"
    new = fold(name) if name else "imported"
    replaces, was = None, None
    before = _version(policy.from_version, findings)
    if before is not None and own is not None:
        if before < own:
            replaces = f"{before[0]}.{before[1]}"
            old = fold(policy.from_name.text) if policy.from_name is not None else new
            was = old if old != new else None
        elif policy.from_version is not None:
            findings.append(error(
                Id.FROM_VERSION, policy.from_version.span,
                f"the policy replaces version {show(policy.from_version.text)}, which is not lower "
                f"than its own, {version}: ACM refused such an update; it is left out",
                "raise the policy's own version",
            ))
    return Header(new, name if name != new else "", version, replaces, was, tuple(findings))


def _version(said: Name | None, findings: list[Finding]) -> tuple[int, int] | None:
    """Major and minor. ACM compared them as numbers."""
    if said is None:
        return None
    match = _VERSION.fullmatch(said.text)
    if match is None:
        findings.append(error(
            Id.BAD_VERSION, said.span,
            f"{show(said.text)} is no version: it must be two numbers with a dot between them",
            "write it like 1.0",
        ))
        return None
    if match[2] != ".":
        findings.append(warning(
            Id.BAD_VERSION, said.span,
            f"the version {show(said.text)} has no dot; it is read as {match[1]}.{match[3]}",
            "write it like 1.0",
        ))
    return int(match[1]), int(match[3])
