"""A policy with levels, a guard, a tombstone and hardware on a real Xen: it boots, and the
hypervisor writes every context as the manifest does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from shype.policy.manifest import load_bundle
from tests.lab.conftest import STILL, Factory

#: Levels whose text has no category, one, two neighbours, a run, and a range.
POLICY = """\
shype: 1
policy: {name: levels, version: "1.0"}
levels: {order: [low, middle, high], categories: [a, b, c, d]}
coalitions: [x, y]
labels:
  manager: {coalitions: all}
  plain: {coalitions: [x], level: low}
  one: {coalitions: [x], level: "high {b}"}
  two: {coalitions: [x], level: "middle {b, c}"}
  many: {coalitions: [x], level: "middle {a, b, c}"}
  other: {coalitions: [y], level: low}
  driver: {coalitions: [x], level: [low, "high {a, c, d}"]}
guards:
  pass: {from: x, to: y, level: [low, "high {all}"], reason: "test"}
retired: [gone]
resource-labels: {none: {inaccessible: true}}
resources:
  - {memory: "0xfed40000-0xfed44fff", label: none}
  - {memory: "0xfe000000-0xfe0fffff", coalitions: [x], level: low}
  - {ioport: "0x2f8-0x2ff", coalitions: [x], level: low}
  - {irq: 3, coalitions: [x], level: low}
host: {dom0: manager, drivers: [driver]}
vms: {v-plain: plain, v-one: one, v-two: two, v-many: many, v-driver: driver, v-pass: pass}
"""

pytestmark = pytest.mark.lab


def test_contexts(fresh_lab: Factory, tmp_path: Path) -> None:
    file = tmp_path / "levels.yaml"
    file.write_text(POLICY)
    policy = load(file).policy
    build(policy, target="xen-4.17", out=tmp_path / "bundle")
    manifest = load_bundle(tmp_path / "bundle").manifest
    lab = fresh_lab(bundle=tmp_path / "bundle")
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    assert _contexts(lab) == {"Domain-0": "u:r:dom0_t:s0-s2:c0.c3"}
    for vm, assignment in policy.assignments.items():
        lab.put(f"/etc/xen/vms/{vm}.cfg", config(vm, type="pv", extra=STILL))
        started = lab.run(["shype", "run", "--json", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
        assert started.code == 0, started
        assert _contexts(lab)[vm] == manifest.labels[assignment.label].context
        status = json.loads(lab.run(["shype", "status", "--json"], timeout=200).out)
        assert status["unknown"] == []
        assert lab.run(["shype", "stop", "--force", vm], timeout=200).code == 0


def _contexts(lab: Lab) -> dict[str, str]:
    """By VM, from `xl list -Z`: its last column."""
    lines = lab.run(["xl", "list", "-Z"]).out.splitlines()[1:]
    return {line.split()[0]: line.split()[-1] for line in lines}
