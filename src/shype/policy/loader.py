"""From a policy file to a `Policy`, or to everything that is wrong with it.

Not needed on an enforcing host: that loads the compiled bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from shype.policy import asserting, building, reading, schema, validate_assertions, validator
from shype.policy.assertions import Assertion, choice
from shype.policy.drafting import assertions, draft
from shype.policy.findings import Id, error
from shype.policy.inventory import Inventory, unmatched
from shype.policy.model import Policy
from shype.policy.source import Finding, PolicyInvalid, Severity
from shype.policy.suggest import Suggester
from shype.policy.yaml_source import Mapping, Scalar, parse

#: Findings shown for one file.
FINDINGS_LIMIT = 1_000

_OF_NAMES = (Id.NAME_PATTERN, Id.VM_ID, Id.KEY_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid policy, and what is probably not meant in it."""

    policy: Policy
    warnings: tuple[Finding, ...]


def load(path: Path, today: date | None = None) -> Loaded:
    """The policy in the file ``path``, as of ``today`` (default: the present day).

    Raises PolicyInvalid (``policy.invalid``) with all findings if it has errors
    or cannot be read.
    """
    policy, findings = check(path, today)
    if policy is None:
        raise PolicyInvalid(findings)
    return Loaded(policy, findings)


def check(
    path: Path, today: date | None = None, inventory: Inventory | None = None
) -> tuple[Policy | None, tuple[Finding, ...]]:
    """The policy in the file ``path`` if it has no errors, and all findings in file order.

    A guard that has expired on ``today`` (default: the present day) is an error.
    An entry of ``resources`` that matches nothing in the ``inventory`` is a warning.
    """
    text = reading.read(path)
    if isinstance(text, Finding):
        return None, (text,)
    return check_text(text, reading.shown(path), today, inventory)


def check_text(
    text: str, file: str, today: date | None = None, inventory: Inventory | None = None
) -> tuple[Policy | None, tuple[Finding, ...]]:
    """As `check`, for a ``text`` whose findings shall name ``file``."""
    source = parse(text, file)
    if source.root is None:
        return None, _ordered(list(source.findings))
    other = _other_version(source.root)
    if other is not None:
        return None, _ordered([*source.findings, other])
    # A key that is not text is wrong as a name too: once is enough.
    known = {finding.span for finding in source.findings if finding.id == Id.YAML_KEY_TYPE}
    findings = list(source.findings)
    for finding in schema.violations(source.root):
        if finding.id not in _OF_NAMES or finding.span not in known:
            findings.append(finding)
    if not isinstance(source.root, Mapping):
        return None, _ordered(findings)
    read = draft(source.root)
    day = date.today() if today is None else today
    findings += validator.errors(read, day)
    if findings:
        return None, _ordered(findings)
    policy = building.policy(read, file)
    advice = validator.warnings(read, day)
    advice += unmatched(policy, inventory) if inventory is not None else ()
    return policy, _ordered(advice)


def check_assertions(
    path: Path, policy: Policy
) -> tuple[tuple[Assertion, ...] | None, tuple[Finding, ...]]:
    """The assertions about ``policy`` in the file ``path``, or None; and all findings in it."""
    text = reading.read(path)
    if isinstance(text, Finding):
        return None, (text,)
    return check_assertions_text(text, reading.shown(path), policy)


def check_assertions_text(
    text: str, file: str, policy: Policy
) -> tuple[tuple[Assertion, ...] | None, tuple[Finding, ...]]:
    """As `check_assertions`, for a ``text`` whose findings shall name ``file``."""
    source = parse(text, file)
    if source.root is None:
        return None, _ordered(list(source.findings))
    other = _other_version(source.root, schema.ASSERTIONS)
    if other is not None:
        return None, _ordered([*source.findings, other])
    findings = [*source.findings, *schema.violations(source.root, schema.ASSERTIONS)]
    entries = assertions(source.root.get("assert")) if isinstance(source.root, Mapping) else ()
    findings += validate_assertions.findings(entries, choice(policy), Suggester())
    if findings:
        return None, _ordered(findings)
    return tuple(map(asserting.assertion, entries)), ()


def _other_version(root: object, kind: str = schema.POLICY) -> Finding | None:
    """The finding for a file in another version: its rules are unknown, so say nothing else."""
    version = root.get(kind) if isinstance(root, Mapping) else None
    if isinstance(version, Scalar) and version.kind == "int" and version.text != "1":
        return schema.unsupported(version, kind)
    return None


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    ordered = sorted(findings, key=lambda f: (f.span, f.severity is Severity.WARNING, f.id))
    if len(ordered) <= FINDINGS_LIMIT:
        return tuple(ordered)
    invalid = any(f.severity is Severity.ERROR for f in ordered)
    last = error(
        Id.POLICY_TRUNCATED, ordered[FINDINGS_LIMIT].span,
        f"there are more than {FINDINGS_LIMIT} findings; the rest is not shown",
        "mend what is shown and check again",
    )
    if not invalid:
        last = Finding(last.id, last.span, last.message, last.fix, Severity.WARNING)
    return (*ordered[:FINDINGS_LIMIT], last)

