"""Who may use which disk, network or device, and why."""

from __future__ import annotations

from datetime import date

import pytest

from shype.base.errors import BadInput
from shype.decision.ids import DecisionId
from shype.decision.query import Use, parse
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.policy.loader import check_text
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName

POLICY = """\
shype: 1
policy: {name: disks, version: "1.0"}
coalitions:
  a: {}
  log: {write-up: true}
  b: {mechanisms: [event, grant]}
levels: {order: [low, high]}
integrity: {order: [dirty, clean]}
labels:
  manager: {coalitions: all}
  low: {coalitions: [a, log], level: low, integrity: dirty}
  high: {coalitions: [a], level: high, integrity: clean}
  quiet: {coalitions: [a], level: low, integrity: dirty, mechanisms: [event]}
  other: {coalitions: [b], level: low, integrity: dirty}
guards:
  gate: {from: a, to: b, level: [low, high], integrity: [dirty, clean], reason: test,
         expires: "2030-01-01"}
resource-labels:
  attic: {coalitions: [a], level: high, integrity: dirty}
resources:
  - {disk: "/dev/vg0/low-*", coalitions: [a], level: low, integrity: dirty}
  - {disk: "/dev/vg0/low-attic", label: attic}
  - {disk: /dev/log, coalitions: [log], level: high, integrity: dirty}
  - {disk: /dev/b, coalitions: [b], level: low, integrity: dirty}
  - {disk: /dev/sda, inaccessible: true}
  - {network: br-a, coalitions: [a], level: low, integrity: dirty}
  - {network: br-b, coalitions: [b], level: low, integrity: dirty}
  - {irq: 3, coalitions: [a], level: low, integrity: dirty}
retired: [gone]
host: {dom0: manager}
vms: {vm1: low}
"""


def server(today: date | None = None, more: str = "") -> SecurityServer:
    """The security server of the policy."""
    text = POLICY.replace("resources:\n", f"{more}resources:\n")
    policy, findings = check_text(text, "disks.yaml", today=date(2026, 1, 1))
    assert policy is not None, findings
    return SecurityServer(policy, today=today)


SERVER = server()


@pytest.mark.parametrize(("question", "read", "write", "both"), [
    ("low disk:/dev/vg0/low-1", "resource.shared", "resource.shared", "resource.shared"),
    ("vm1 disk:/dev/vg0/low-1", "resource.shared", "resource.shared", "resource.shared"),
    # the exact name goes before the pattern
    ("low disk:/dev/vg0/low-attic", "mls.read-up", "mls.write-up", "mls.read-up"),
    ("high disk:/dev/vg0/low-attic", "biba.read-down", "biba.write-down", "biba.read-down"),
    ("high disk:/dev/vg0/low-1", "biba.read-down", "mls.write-down", "biba.read-down"),
    ("low disk:/dev/log", "mls.read-up", "resource.shared", "mls.read-up"),
    ("other disk:/dev/vg0/low-1", *3 * ("resource.disjoint",)),
    ("low disk:/dev/sda", *3 * ("resource.inaccessible",)),
    ("manager disk:/dev/sda", *3 * ("resource.inaccessible",)),
    ("manager disk:/dev/b", *3 * ("resource.shared",)),
    ("low disk:/dev/none", *3 * ("resource.unlabeled",)),
    ("gone disk:/dev/vg0/low-1", *3 * ("label.retired",)),
    ("low network:br-a", *3 * ("resource.shared",)),
    ("quiet network:br-a", *3 * ("mechanism.off",)),
    ("other network:br-b", *3 * ("mechanism.closed",)),
    ("quiet irq:3", *3 * ("resource.shared",)),
    ("gate disk:/dev/vg0/low-1", "resource.shared", "guard.direction", "guard.direction"),
    ("gate disk:/dev/b", "guard.direction", "resource.shared", "guard.direction"),
])
def test_use(question: str, read: str, write: str, both: str) -> None:
    label, resource = question.split()
    found = []
    for access in Access:
        if label == "gone":
            decision = SERVER.use(LabelName(label), ResourceKind.DISK, resource[5:], access)
        else:
            decision = parse(f"{question} {access}").ask(SERVER)
        assert decision.permitted is (decision.id == DecisionId.RESOURCE_SHARED)
        assert decision.sentence.endswith(".")
        assert decision.rules
        found.append(str(decision.id))
    assert found == [read, write, both]


def test_the_rules_name_label_entry_and_coalition() -> None:
    decision = SERVER.use(LabelName("low"), ResourceKind.DISK, "/dev/vg0/low-1")
    assert [str(span) for span in decision.rules] == [
        "disks.yaml:11:3", "disks.yaml:21:5", "disks.yaml:4:3",
    ]
    assert decision.shared == ("a",)


def test_what_no_entry_names_has_the_label_unlabeled_if_there_is_one() -> None:
    free = "  unlabeled: {coalitions: [b], level: low, integrity: dirty}\n"
    other = server(more=free)
    assert other.use(LabelName("other"), ResourceKind.DISK, "/dev/none").permitted
    assert other.use(LabelName("low"), ResourceKind.DISK, "/dev/none").id == "resource.disjoint"


def test_an_expired_guard_uses_nothing() -> None:
    late = server(date(2030, 1, 1))
    for access in Access:
        decision = late.use(LabelName("gate"), ResourceKind.DISK, "/dev/vg0/low-1", access)
        assert (decision.permitted, decision.id) == (False, "guard.expired")


@pytest.mark.parametrize(("kind", "name", "id"), [
    (ResourceKind.IRQ, "x", "resource.name"), (ResourceKind.DISK, "", "resource.name"),
    (ResourceKind.DISK, "a\nb", "resource.name"),
])
def test_no_name_is_bad_input(kind: ResourceKind, name: str, id: str) -> None:
    with pytest.raises(BadInput) as error:
        SERVER.use(LabelName("low"), kind, name)
    assert error.value.id == id
    with pytest.raises(BadInput):
        SERVER.use(LabelName("unknown"), ResourceKind.IRQ, "3")


def test_questions_about_resources() -> None:
    asked = Use("low", ResourceKind.DISK, "/dev/log", Access.READ)
    assert parse("low disk:/dev/log read") == asked
    assert parse('{"use": "low", "kind": "disk", "name": "/dev/log", "access": "read"}') == asked
    assert asked.words == ("low", "disk:/dev/log", "read")
    assert asked.to_json()["access"] == "read"
    for line in ('{"use": "low", "kind": "tape", "name": "x"}', "low disk:/dev/log steal",
                 '{"use": "low", "kind": "disk"}'):
        with pytest.raises(BadInput) as error:
            parse(line)
        assert error.value.id == "query.bad"
