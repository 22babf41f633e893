"""Policies and their plans, from text, for the tests of updates."""

from __future__ import annotations

from datetime import date

from shype.analysis.plan import Plan, plan
from shype.analysis.state import from_json
from shype.cli.plan import contexts
from shype.policy.loader import check_text
from shype.policy.model import Policy

#: The day of all plans here, long before any guard in them expires.
TODAY = date(2030, 1, 1)

OLD = """\
shype: 1
policy: {name: acme, version: "1.0"}
coalitions: [red, blue, market]
walls: {colours: [red, blue]}
labels:
  host: {coalitions: all}
  red-db: {coalitions: [red], wall: [red]}
  blue-db: {coalitions: [blue], wall: [blue]}
  quotes: {coalitions: [market]}
  desk: {coalitions: [red, market]}
host: {dom0: host}
vms: {r: red-db, b: blue-db, q: quotes}
"""
#: The same, as the version after it.
NEXT = OLD.replace('version: "1.0"', 'version: "1.1", from: "1.0"')


def policy(text: str, file: str = "new.yaml") -> Policy:
    """The policy that ``text`` says; guards do not expire."""
    found, findings = check_text(text, file, date.min)
    assert found is not None, findings
    return found


def planned(old: str, new: str, state: object = None, today: date = TODAY) -> Plan:
    """The plan from ``old`` to ``new``."""
    before, after = policy(old, "old.yaml"), policy(new)
    return plan(
        before, after, contexts(before), contexts(after), today=today,
        state=None if state is None else from_json(state),
    )


def running(**labels: str) -> dict[str, object]:
    """A state in which VMs of these names run with these labels, from domain 1."""
    return {"domains": [
        {"domid": i, "vm": vm, "label": label} for i, (vm, label) in enumerate(labels.items(), 1)
    ]}


def ids(made: Plan) -> set[str]:
    """The ids of all findings."""
    return {str(finding.id) for finding in made.found}
