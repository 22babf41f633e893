"""A sealed host: the real hypervisor creates only what the vector in force has."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy import vector_order
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.names import VectorName
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_faults import Answer, shype

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: plant, version: "1.0"}
coalitions: [control, office]
labels:
  manager:  {coalitions: all}
  plc:      {coalitions: [control]}
  desk:     {coalitions: [office]}
  engineer: {coalitions: [control]}
host: {dom0: manager}
vms: {plc-1: plc, desk-1: desk, engineer-1: engineer}
static: true
vectors:
  normal: [plc, desk]
  maintenance: [plc, engineer]
  quiet: [desk]
"""
ORDER = "/run/vector.order"


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host that is sealed, with three guests' configurations."""
    place = tmp_path_factory.mktemp("static")
    (place / "plant.yaml").write_text(POLICY)
    build(load(place / "plant.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle") as up:
        for vm in ("plc", "desk", "engineer"):
            up.put(f"/run/{vm}-1.cfg", config(f"{vm}-1", type="pv", extra=STILL))
        yield up


def order(lab: Lab, to: str, *hosts: str) -> None:
    """Give the host an order, signed with the key that it trusts."""
    made = vector_order.give("plant", "1.0", VectorName(to), hosts, 3600)
    key = PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))
    lab.put(ORDER, vector_order.seal(made, [key]))


def vector(lab: Lab, *words: str) -> Answer:
    """`shype vector VERB`."""
    done = lab.run(["shype", "vector", *words, "--json"], timeout=300)
    return Answer(done.code, json.loads(done.out))


def switch(lab: Lab) -> tuple[int, str | None]:
    """`shype vector switch`: its exit code, and the id of what was wrong."""
    done = vector(lab, "switch", ORDER)
    return done.code, refused(done)


def refused(done: Answer) -> str | None:
    """The id of a refusal or an error."""
    decision = done.value.get("decision")
    if isinstance(decision, dict) and decision["verdict"] == "deny":
        return str(decision["id"])
    return None if done.error is None else str(done.error)


def put(lab: Lab, name: str, value: int) -> None:
    """Set a boolean as root in dom0 can, without shype."""
    assert lab.run(["flask-set-bool", name, str(value)]).code == 0


def behind(lab: Lab, label: str) -> str:
    """Root's own `xl create` of a VM of that label in that label's open window; what Xen says."""
    number = ("plc", "desk", "engineer").index(label)
    for bit in range(2):
        put(lab, f"win_b{bit}", number >> bit & 1)
    put(lab, "win_en", 1)
    lab.put("/run/behind.cfg", config(
        "behind", type="pv", seclabel=f"u:r:l_{label}_t:s0", extra=STILL))
    lab.run(["xl", "dmesg"])
    before = lab.run(["xl", "dmesg"]).out
    made = lab.run(["xl", "create", "-p", "/run/behind.cfg"], timeout=120)
    said = lab.run(["xl", "dmesg"]).out.removeprefix(before)
    put(lab, "win_en", 0)
    if made.code == 0:
        lab.run(["xl", "destroy", "behind"])
        return "created"
    return said


def test_a_sealed_host_becomes_only_what_was_named(lab: Lab) -> None:
    """One story, because each step needs the one before it."""
    assert vector(lab, "show").value["in_force"] == "normal"
    assert shype(lab, "run", "/run/plc-1.cfg").code == 0
    assert refused(shype(lab, "run", "/run/engineer-1.cfg")) == "vector.absent"
    assert "denied  { create }" in behind(lab, "engineer"), "the hypervisor's own refusal"
    assert behind(lab, "desk") == "created", "in that window it is the vector that decides"
    assert shype(lab, "run", "/run/desk-1.cfg").code == 0

    order(lab, "maintenance", "another-host")
    assert switch(lab) == (2, "order.other-host")
    order(lab, "maintenance")
    assert switch(lab) == (1, "vector.residents")
    assert shype(lab, "stop", "desk-1", "--force").code == 0
    assert switch(lab) == (0, None)
    assert (boolean(lab, "vec_b0"), boolean(lab, "vec_b1")) == (True, False)
    assert "plc-1" in guests(lab), "what both vectors have runs on"
    assert switch(lab) == (2, "order.used")

    assert "denied  { create }" in behind(lab, "desk")
    assert refused(shype(lab, "run", "/run/desk-1.cfg")) == "vector.absent"
    assert shype(lab, "run", "/run/engineer-1.cfg").code == 0
    assert shype(lab, "status").code == 0


def test_booleans_that_nobody_ordered_stop_launches(lab: Lab) -> None:
    put(lab, "vec_b1", 1)  # with vec_b0: a number that no vector has
    assert "denied  { create }" in behind(lab, "desk"), "it opens nothing"
    assert "denied  { create }" in behind(lab, "engineer")
    assert refused(shype(lab, "run", "/run/desk-1.cfg")) == "vector.unordered"
    assert shype(lab, "status").code == 1
    order(lab, "maintenance")
    assert switch(lab) == (0, None), "a new order repairs it"
    assert shype(lab, "status").code == 0


def test_nobody_can_load_a_policy_or_stop_enforcing(lab: Lab) -> None:
    lab.put("/run/policy.bin", b"x" * 64)
    before = lab.run(["xl", "dmesg"]).out
    assert lab.run(["xl", "loadpolicy", "/run/policy.bin"]).code != 0
    assert lab.run(["xl", "setenforce", "0"]).code != 0
    said = lab.run(["xl", "dmesg"]).out.removeprefix(before)
    for permission in ("load_policy", "setenforce"):
        assert f"denied  {{ {permission} }}" in said
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
