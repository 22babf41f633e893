"""Changing one entry of a policy file: all the rest stays, or nothing changes."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.policy.editing import Edit, PolicyFile
from shype.policy.loader import check_text, load
from shype.policy.model import Policy, ResourceKind
from shype.policy.names import VmId
from shype.policy.source import PolicyInvalid
from tests.policy.policy_text import policy_yaml
from tests.policy.strategies import policies, vm_ids

HEAD = """\
# the shop
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [web, data]   # two
labels:
  boss: {coalitions: all}
  front: {coalitions: [web]}
  back: {coalitions: [data]}
  "no": {}
host: {dom0: boss}
"""
RESOURCES = "resource-labels: {fast: {coalitions: [web]}, slow: {coalitions: [data]}}\n"


def _file(tmp_path: Path, body: str) -> PolicyFile:
    path = tmp_path / "p.yaml"
    path.write_bytes(body.encode())
    return PolicyFile(path)


def _vms(text: str) -> dict[str, str]:
    policy, findings = check_text(text, "p.yaml")
    assert policy is not None, [str(f) for f in findings]
    return {vm: a.label for vm, a in policy.assignments.items()}


#: (what stands under the head, VM, label or None, what stands there then, label before)
CASES = [
    ("", "a", "front", "\nvms:\n  a: front\n", None),
    ("", "a", "no", '\nvms:\n  a: "no"\n', None),
    ("vms: {}\n", "a", "front", "vms: {a: front}\n", None),
    ("vms: {b: back}  # x\n", "a", "front", "vms: {b: back, a: front}  # x\n", None),
    ("vms: {\n  b: back,  # x\n}\n", "a", "front", "vms: {\n  b: back, a: front,  # x\n}\n", None),
    ("vms:\n  b: back\n", "a", "front", "vms:\n  b: back\n  a: front\n", None),
    ("vms:\n    b: back  # x\n\n# end\n", "a", "front",
     "vms:\n    b: back  # x\n    a: front\n\n# end\n", None),
    ("vms:\n  b: back", "a", "front", "vms:\n  b: back\n  a: front\n", None),
    ("vms:\n  a: back  # x\n  b: back\n", "a", "front", "vms:\n  a: front  # x\n  b: back\n",
     "back"),
    ("vms:\n  'a'  : \"back\"  # x\n", "a", "no", "vms:\n  'a'  : \"no\"  # x\n", "back"),
    ("vms:\n  a: >-\n    back\n  b: front\n", "a", "front", None, "back"),
    ("vms: {a: back, b: back}\n", "a", "front", "vms: {a: front, b: back}\n", "back"),
    ("vms:\n  a: &x back\n  b: *x\n", "a", "front", None, "back"),
    ("vms:\n  a: &x back\n  b: *x\n", "b", "front", None, "back"),
    ("vms:\n  a: back  # x\n  b: back\n", "a", None, "vms:\n  b: back\n", "back"),
    ("vms:\n  b: back\n  # y\n  a: back  # x", "a", None, "vms:\n  b: back\n  # y\n", "back"),
    ("vms:  # all\n  a: back  # x\n# end\n", "a", None, "vms: {}  # all\n# end\n", "back"),
    ("vms: {a: back}\n", "a", None, "vms: {}\n", "back"),
    ("vms: {a: back, b: back}\n", "a", None, "vms: {b: back}\n", "back"),
    ("vms: {b: back, a: back, c: back}\n", "a", None, "vms: {b: back, c: back}\n", "back"),
    ("vms:\r\n  b: back\r\n", "a", "front", "vms:\r\n  b: back\r\n  a: front\r\n", None),
    ("", "12:30", "front", '\nvms:\n  "12:30": front\n', None),
    ("", "off", "front", '\nvms:\n  "off": front\n', None),
    ("", "Web.1", "front", "\nvms:\n  Web.1: front\n", None),
]


@pytest.mark.parametrize(("body", "vm", "label", "wanted", "before"), CASES)
def test_labels_of_vms(
    tmp_path: Path, body: str, vm: str, label: str | None, wanted: str | None, before: str | None
) -> None:
    file = _file(tmp_path, HEAD + body)
    old = _vms(HEAD + body)
    try:
        edit = file.label_vm(vm, label)
    except BadInput as refusal:
        assert (wanted, refusal.id) == (None, "edit.refused")  # noqa: PT017
        return
    assert edit.before == before
    if wanted is not None:
        assert edit.text == HEAD + wanted
    old.pop(vm, None)
    assert _vms(edit.text) == old | ({vm: label} if label else {})


def test_the_whole_file_as_a_flow_mapping(tmp_path: Path) -> None:
    body = (
        '{shype: 1, policy: {name: p, version: "1.0"}, coalitions: [c], labels: {m: {}, a: {}}, '
        "host: {dom0: m}}\n"
    )
    edit = _file(tmp_path, body).label_vm("v", "a")
    assert edit.text == body.replace("m}}", "m}, vms: {v: a}}")


def test_what_follows_the_document_is_not_taken_for_a_section(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        _file(tmp_path, HEAD + "...\n").label_vm("a", "front")
    assert caught.value.id == "edit.refused"


@pytest.mark.parametrize(("vm", "label", "id"), [
    ("a", "frnt", "label.unknown"), ("a", "boss", "edit.refused"), ("a b", "front", "edit.refused"),
    ("Domain-0", "front", "edit.refused"), ("x: y, z", "front", "edit.refused"),
    ("a\nlabels: {}", "front", "edit.refused"), ("", "front", "edit.refused"),
])
def test_what_would_be_wrong_is_refused(tmp_path: Path, vm: str, label: str, id: str) -> None:
    file = _file(tmp_path, HEAD)
    with pytest.raises(BadInput) as caught:
        file.label_vm(vm, label)
    assert caught.value.id == id
    assert caught.value.fix


def test_removing_nothing_changes_nothing(tmp_path: Path) -> None:
    file = _file(tmp_path, HEAD)
    assert file.label_vm("a", None) == Edit(HEAD, None)
    assert file.label_of(None, "a") is None


def test_saving_keeps_mode_and_link_and_sees_other_writers(tmp_path: Path) -> None:
    path, link = tmp_path / "p.yaml", tmp_path / "link.yaml"
    path.write_text(HEAD)
    path.chmod(0o640)
    link.symlink_to(path)
    file = PolicyFile(link)
    file.save(file.label_vm("a", "front"))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert load(path).policy.assignments[VmId("a")].label == "front"
    with pytest.raises(BadInput) as caught:
        file.save(file.label_vm("b", "front"))
    assert caught.value.id == "edit.changed"


def test_a_bad_file_is_refused_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid):
        _file(tmp_path, "shype: 2\n")
    with pytest.raises(PolicyInvalid):
        PolicyFile(tmp_path / "none.yaml")


RESOURCE_CASES = [
    ("", "/dev/x", "fast", '\nresources:\n  - {disk: "/dev/x", label: fast}\n', None),
    ("resources: []\n", "/dev/x", "fast", 'resources: [{disk: "/dev/x", label: fast}]\n', None),
    ("resources:\n  - disk: /dev/y\n    label: slow  # y\n# end\n", "/dev/x", "fast",
     'resources:\n  - disk: /dev/y\n    label: slow  # y\n  - {disk: "/dev/x", label: fast}\n'
     "# end\n", None),
    ("resources:\n- {disk: /dev/x, label: slow}  # x\n", "/dev/x", "fast",
     "resources:\n- {disk: /dev/x, label: fast}  # x\n", "slow"),
    ("resources:\n- {disk: /dev/x, label: slow}  # x\n- {network: br, label: slow}\n", "/dev/x",
     None, "resources:\n- {network: br, label: slow}\n", "slow"),
    ("resources:  # all\n  - disk: /dev/x\n    label: slow\n", "/dev/x", None,
     "resources: []  # all\n", "slow"),
    ("resources: [{disk: /dev/y, label: slow}, {disk: /dev/x, label: slow}]\n", "/dev/x", None,
     "resources: [{disk: /dev/y, label: slow}]\n", "slow"),
    ("resources: [{disk: /dev/x, coalitions: [web]}]\n", "/dev/x", None, "resources: []\n",
     "(rights of its own)"),
]


@pytest.mark.parametrize(("body", "name", "label", "wanted", "before"), RESOURCE_CASES)
def test_labels_of_resources(
    tmp_path: Path, body: str, name: str, label: str | None, wanted: str, before: str | None
) -> None:
    file = _file(tmp_path, HEAD + RESOURCES + body)
    assert file.label_of(ResourceKind.DISK, name) == before
    edit = file.label_resource(ResourceKind.DISK, name, label)
    assert (edit.text, edit.before) == (HEAD + RESOURCES + wanted, before)


def test_a_resource_s_own_rights_are_not_overwritten(tmp_path: Path) -> None:
    file = _file(tmp_path, HEAD + RESOURCES + "resources: [{disk: /dev/x, coalitions: [web]}]\n")
    with pytest.raises(BadInput) as caught:
        file.label_resource(ResourceKind.DISK, "/dev/x", "fast")
    assert caught.value.id == "edit.refused"
    with pytest.raises(BadInput) as caught:
        file.label_resource(ResourceKind.DISK, "/dev/y", "fats")
    assert caught.value.id == "label.unknown"


@given(policies(), vm_ids(), st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.function_scoped_fixture,
])
def test_set_then_remove_on_random_policies(
    tmp_path: Path, policy: Policy, vm: str, data: st.DataObject
) -> None:
    guests = [label.name for label in policy.guests if label.name not in policy.guards]
    if not guests:
        return
    text = policy_yaml(policy)
    file = _file(tmp_path, text)
    label = data.draw(st.sampled_from(guests))
    once = file.label_vm(vm, label)
    changed = [d for d in difflib.ndiff(text.splitlines(), once.text.splitlines()) if d[0] in "+-"]
    assert len([line for line in changed if line.strip("+- ")]) <= 3
    file.save(once)
    again = PolicyFile(tmp_path / "p.yaml").label_vm(vm, None)
    expected = {v: a.label for v, a in policy.assignments.items() if v != vm}
    assert _vms(again.text) == expected


def test_a_resource_is_found_by_any_spelling_and_by_patterns(tmp_path: Path) -> None:
    body = HEAD + RESOURCES + (
        'resources:\n  - {ioport: "0x2f8-0x2ff", label: slow}\n'
        '  - {disk: "/dev/vg/a-*", label: slow}\n'
    )
    file = _file(tmp_path, body)
    assert file.label_of(ResourceKind.IOPORT, "760-767") == "slow"
    assert file.label_of(ResourceKind.DISK, "/dev/vg/a-1") == "slow"
    assert file.label_of(ResourceKind.DISK, "/dev/vg/a-*") == "slow"
    assert file.label_of(ResourceKind.DISK, "/dev/vg/*") is None
    assert file.label_resource(ResourceKind.IOPORT, "760-767", "fast").text == body.replace(
        "0x2ff\", label: slow", "0x2ff\", label: fast")
    one = file.label_resource(ResourceKind.DISK, "/dev/vg/a-1", "fast")
    assert one.text == body + '  - {disk: "/dev/vg/a-1", label: fast}\n'
    for kind, name in ((ResourceKind.PCI, "x"), (ResourceKind.IRQ, "-1"), (ResourceKind.DISK, "")):
        with pytest.raises(BadInput) as caught:
            file.label_resource(kind, name, "fast")
        assert caught.value.id == "resource.name"
