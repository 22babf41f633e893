"""The policies of the decision tests, most of them built without the loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from shype.policy import loader
from shype.policy.model import Assignment, Coalition, Enforcement, Host, Label, Policy, Wall
from shype.policy.names import CoalitionName, LabelName, MemberName, VmId, WallName
from shype.policy.source import Span

#: The `banks` policy of the manual, in YAML: what `banks()` is the value of.
BANKS_YAML = """\
shype: 1
policy: {name: banks, version: "1.0"}
coalitions: [bank-a, bank-b, market, offline]
walls: {banks: [bank-a, bank-b]}
labels:
  manager: {coalitions: [bank-a, bank-b, market]}
  bank-a-db: {coalitions: [bank-a], wall: [bank-a]}
  bank-a-desk: {coalitions: [bank-a, market], wall: [bank-a]}
  bank-b-db: {coalitions: [bank-b], wall: [bank-b]}
  bank-b-desk: {coalitions: [bank-b, market], wall: [bank-b]}
  market-data: {coalitions: [market]}
  vault: {coalitions: [offline]}
  hermit: {}
host: {dom0: manager}
vms:
  a-db: bank-a-db
  a-desk: bank-a-desk
  b-db: bank-b-db
  market: market-data
  hermit: vault
  8e5f5a1c-0b5e-4a4b-9b0a-6c0b1b0e7d11: bank-b-desk
"""


def policy(
    coalitions: Sequence[str],
    walls: Mapping[str, Sequence[str]],
    labels: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    dom0: str,
    vms: Mapping[str, str] | None = None,
) -> Policy:
    """A policy value; every span is a line of its own, in the order of `BANKS_YAML`."""
    file, first = "banks.yaml", 6
    host_line = first + len(labels)
    return Policy(
        name="banks", version="1.0", source=file,
        coalitions={
            CoalitionName(n): Coalition(
                CoalitionName(n), Span(file, 3, 14 + len(", ".join([*coalitions[:i], ""])))
            )
            for i, n in enumerate(coalitions)
        },
        walls={
            WallName(n): Wall(WallName(n), frozenset(map(MemberName, m)), Span(file, 4, 9 + i))
            for i, (n, m) in enumerate(walls.items())
        },
        labels={
            LabelName(n): Label(
                LabelName(n), frozenset(map(CoalitionName, c)), frozenset(map(MemberName, m)),
                Span(file, first + i, 3),
            )
            for i, (n, (c, m)) in enumerate(labels.items())
        },
        host=Host(LabelName(dom0), frozenset(), Enforcement.ENFORCING, Span(file, host_line, 1)),
        assignments={
            VmId(vm): Assignment(VmId(vm), LabelName(label), Span(file, host_line + 2 + i, 3))
            for i, (vm, label) in enumerate((vms or {}).items())
        },
    )


def banks() -> Policy:
    """Two banks behind one wall, a market, a label dom0 may not run, one that shares nothing."""
    return policy(
        ["bank-a", "bank-b", "market", "offline"],
        {"banks": ["bank-a", "bank-b"]},
        {
            "manager": (["bank-a", "bank-b", "market"], []),
            "bank-a-db": (["bank-a"], ["bank-a"]),
            "bank-a-desk": (["bank-a", "market"], ["bank-a"]),
            "bank-b-db": (["bank-b"], ["bank-b"]),
            "bank-b-desk": (["bank-b", "market"], ["bank-b"]),
            "market-data": (["market"], []),
            "vault": (["offline"], []),
            "hermit": ([], []),
        },
        "manager",
        {
            "a-db": "bank-a-db", "a-desk": "bank-a-desk", "b-db": "bank-b-db",
            "market": "market-data", "hermit": "vault",
            "8e5f5a1c-0b5e-4a4b-9b0a-6c0b1b0e7d11": "bank-b-desk",
        },
    )


def read(text: str) -> Policy:
    """The policy of a text that has no errors on the first day of 2030."""
    policy, findings = loader.check_text(text, "test.yaml", date(2030, 1, 1))
    assert policy is not None, findings
    return policy
