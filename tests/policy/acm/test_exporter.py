"""An exported policy is valid ACM XML and permits what the policy permits, or less, never more."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.acm.exporter import Exported, export
from shype.policy.acm.findings import Id
from shype.policy.acm.importer import import_documents
from shype.policy.acm.structure import NAMESPACE
from shype.policy.loader import check_text
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.policy.acm.module import Acm, Machine
from tests.policy.acm.schema import violations
from tests.policy.strategies import policies

_SETTINGS = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
_SHARING = (Operation.EVENT_SEND, Operation.MAP_WRITE, Operation.DISK_WRITE)


def _acm(text: str) -> Acm:
    """The matrices of a valid document, by ElementTree and nothing of shype."""
    root = ElementTree.fromstring(text)
    tag = f"{{{NAMESPACE}}}"

    def types(element: ElementTree.Element, kind: str) -> set[str]:
        return {t.text or "" for t in element.findall(f"{tag}{kind}/{tag}Type")}

    def name(element: ElementTree.Element) -> str:
        return (element.findtext(f"{tag}Name") or "").replace("__UNLABELED__", "unlabeled")

    subjects = next(root.iter(f"{tag}SubjectLabels"))
    vms = list(root.iter(f"{tag}VirtualMachineLabel"))
    return Acm(
        subjects.attrib["bootstrap"],
        {name(vm): types(vm, "SimpleTypeEnforcementTypes") for vm in vms},
        {name(vm): types(vm, "ChineseWallTypes") for vm in vms},
        {name(r): types(r, "SimpleTypeEnforcementTypes") for r in root.iter(f"{tag}ResourceLabel")},
        [{t.text or "" for t in c.findall(f"{tag}Type")} for c in root.iter(f"{tag}Conflict")],
    )


def _policy(body: str) -> Policy:
    policy, findings = check_text(body, "p.yaml")
    assert policy is not None, [str(f) for f in findings]
    return policy


def _compare(policy: Policy, done: Exported, steps: list[tuple[bool, int]]) -> None:
    acm, server = _acm(done.text), SecurityServer(policy)
    exact = not done.findings
    guests = [name for name in map(LabelName, acm.ste) if name != policy.host.dom0]
    for a in guests:
        assert not acm.authorized(a) or server.authorize(a).permitted
        assert not exact or acm.authorized(a) == server.authorize(a).permitted
        for b in guests:
            if not acm.authorized(a) or not acm.authorized(b):
                continue  # who cannot start shares nothing
            for operation in _SHARING:
                ours, theirs = server.permits(a, b, operation), acm.shares(a, b)
                assert ours or not theirs, (a, b)
                assert not exact or ours == theirs, (a, b)
    machine, running = Machine(acm), list[Running]()
    for number, (stop, pick) in enumerate(steps if guests else ()):
        if stop and running:
            machine.stop(running.pop(pick % len(running)).label)
            continue
        label = guests[pick % len(guests)]
        theirs = acm.authorized(label) and machine.start(label)
        ours = server.launch(label, running).permitted
        assert ours or not theirs
        assert not exact or ours == theirs
        if theirs:
            running.append(Running(number + 1, f"vm{number}", label))


_STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=20)


@given(policies(), _STEPS)
@_SETTINGS
def test_acm_permits_no_more(policy: Policy, steps: list[tuple[bool, int]]) -> None:
    try:
        done = export(policy)
    except BadInput:
        return  # test_what_acm_cannot_say says of what
    assert violations(done.text) == []
    assert done.lossy == ()
    _compare(policy, done, steps)


@given(policies())
@_SETTINGS
def test_what_is_exported_whole_comes_back_the_same(policy: Policy) -> None:
    try:
        done = export(policy)
    except BadInput:
        return
    back = import_documents([(done.text.encode(), "back.xml")])
    assert not [f for f in back.findings if f.id not in (Id.NO_TYPES, Id.NOT_AUTHORIZED)]
    if {f.id for f in done.findings} - {Id.EXPORT_ASSIGNMENT}:
        return
    ours, theirs = SecurityServer(policy), SecurityServer(back.policy)
    assert policy.labels.keys() == back.policy.labels.keys()
    assert (policy.name, policy.version) == (back.policy.name, back.policy.version)
    assert policy.host.dom0 == back.policy.host.dom0
    for a in policy.labels:
        assert ours.authorize(a).permitted == theirs.authorize(a).permitted
        for b in policy.labels:
            if policy.host.dom0 not in (a, b):
                assert ours.together(a, b).permitted == theirs.together(a, b).permitted
            for operation in Operation:
                assert ours.permits(a, b, operation) == theirs.permits(a, b, operation)
    again = export(back.policy)
    assert _acm(again.text) == _acm(done.text)


BASE = """\
shype: 1
policy: {name: shop, version: "1.1", from: "1.0"}
coalitions: {front: {}, back: {}, spare: {}}
walls: {rivals: [red, blue]}
labels:
  boss: {coalitions: all}
  web: {coalitions: [front], wall: [red], was: old-web}
  data: {coalitions: [back], wall: [blue]}
  unlabeled: {coalitions: [spare]}
resource-labels:
  disk: {coalitions: [back]}
  unlabeled: {coalitions: [spare]}
host: {dom0: boss}
"""


def test_a_policy_without_more_is_exported_whole() -> None:
    done = export(_policy(BASE))
    assert done.findings == ()
    assert violations(done.text) == []
    assert '<Name from="old-web">web</Name>' in done.text
    assert "<PolicyName>shop</PolicyName>\n      <Version>1.0</Version>" in done.text
    assert done.text.count("<Name>__UNLABELED__</Name>") == 2
    back = import_documents([(done.text.encode(), "back.xml")])
    assert back.findings == ()
    assert back.policy.replaces == "1.0"
    assert back.policy.labels[LabelName("web")].was == "old-web"


def _changed(*changes: tuple[str, str]) -> Policy:
    body = BASE
    for old, new in changes:
        assert old in body
        body = body.replace(old, new, 1)
    return _policy(body)


_LEVELS = (
    ("labels:", "levels: {order: [low, high]}\nlabels:"), ("[front], w", "[front], level: low, w"),
    ("[back], w", "[back], level: high, w"), ("unlabeled: {", "unlabeled: {level: low, "),
    ("disk: {", "disk: {level: low, "), ("\n  unlabeled: {coalitions: [spare]}\nhost",
                                         "\n  unlabeled: {coalitions: [spare], level: low}\nhost"),
)
_GUARD = ("host:", "guards: {release: {from: back, to: front, reason: tested}}\nhost:")


@pytest.mark.parametrize(("changes", "id", "more"), [
    (_LEVELS, Id.EXPORT_LEVELS, True),
    ([("front: {}", "front: {mechanisms: [event, grant, argo]}")], Id.EXPORT_MECHANISMS, True),
    ([("wall: [red]", "wall: [red], mechanisms: [grant]")], Id.EXPORT_MECHANISMS, True),
    ([("unlabeled: {coalitions: [spare]}\nres", "unlabeled: {coalitions: [back]}\nres")],
     Id.EXPORT_UNLABELED, True),
    ([("\n  unlabeled: {coalitions: [spare]}\nres", "\nres")], Id.EXPORT_UNLABELED, False),
    ([_GUARD], Id.EXPORT_GUARD, False),
    ([("[front], wall", "[front], wall"), ("{coalitions: [front], ", "{")],
     Id.EXPORT_NO_COALITION, False),
    ([("disk: {coalitions: [back]}", "disk: {coalitions: [back, front]}")],
     Id.EXPORT_RESOURCE, False),
    ([("host:", 'resources: [{disk: /dev/x, label: disk}]\nhost:')], Id.EXPORT_RESOURCE, False),
    ([("host: {dom0: boss}", "host: {dom0: boss}\nvms: {v: web}")], Id.EXPORT_ASSIGNMENT, False),
    ([("host:", "retired: [gone]\nhost:")], Id.EXPORT_RETIRED, False),
    ([("front: {}", "front: {was: old}")], Id.EXPORT_RENAME, False),
    ([("rivals: [red, blue]", "rivals: {members: [red, blue], was: old}")],
     Id.EXPORT_RENAME, False),
])
def test_what_acm_cannot_say(changes: list[tuple[str, str]], id: Id, more: bool) -> None:
    policy = _changed(*changes)
    if more:
        with pytest.raises(BadInput, match="ACM would permit more") as caught:
            export(policy)
        assert caught.value.id == "acm.lossy"
        assert "--lossy" in caught.value.fix
    done = export(policy, lossy=more)
    assert [f.id for f in done.findings] == [id]
    assert bool(done.lossy) == more
    assert violations(done.text) == []
    if not more:
        _compare(policy, done, [(False, 0), (False, 1), (False, 2)])


def test_that_argo_is_closed_is_no_loss() -> None:
    done = export(_changed(("front: {}", "front: {mechanisms: [event, grant, disk, network]}")))
    assert done.findings == ()


def test_an_inaccessible_resource_stays_so() -> None:
    done = export(_changed(("disk: {coalitions: [back]}", "disk: {inaccessible: true}")))
    acm = _acm(done.text)
    assert done.findings == ()
    assert not any(acm.uses(label, "disk") for label in acm.ste)


def test_a_version_too_long_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        export(_changed(('"1.1"', '"123456789.0"')))
    assert caught.value.id == "acm.version"


def test_the_schema_s_table_can_fail() -> None:
    good = export(_policy(BASE)).text
    for old, new in (
        ("<Version>1.1</Version>", ""), ("<Version>1.1", "<Version>x"), (' bootstrap="boss"', ""),
        ("<PolicyName>shop</PolicyName>\n    <Version>1.1</Version>",
         "<Version>1.1</Version><PolicyName>shop</PolicyName>"), (NAMESPACE, "urn:x"),
        (' name="rivals"', ""),
        ("<Type>back</Type>\n        </SimpleTypeEnforcementTypes>\n      </R",
         "</SimpleTypeEnforcementTypes>\n      </R"),
        ("<Name>disk</Name>", "<Name>disk</Name><Name>x</Name>"), ("PrimaryP", "P"),
    ):
        assert old in good
        assert violations(good.replace(old, new, 1)), old


def test_a_label_keeps_all_its_members() -> None:
    policy = _policy("""\
shype: 1
policy: {name: p, version: "1.0"}
coalitions: [c]
walls: {x: [a, b], y: [d, e]}
labels:
  m: {coalitions: all}
  both: {coalitions: [c], wall: [a, d]}
  other-x: {coalitions: [c], wall: [b]}
  other-y: {coalitions: [c], wall: [e]}
host: {dom0: m}
""")
    done = export(policy)
    assert done.findings == ()
    assert _acm(done.text).chwall["both"] == {"a", "d"}
    for first in range(3):
        for second in range(3):
            _compare(policy, done, [(False, first), (False, second)])
