"""`shype verify` in dom0: what the running hypervisor says it would decide.

A policy with every kind of level, a guard, a tombstone and hardware; a random policy; and
hypervisors that have loaded something else than the bundle says, which both the questions and
the guests find out.
"""

from __future__ import annotations

import json
import os
import random
from datetime import date
from pathlib import Path

import pytest

from shype.compile.flask.build import build, compile_cil
from shype.decision.operation import Operation
from shype.host.verify.table import Answer, Side
from shype.lab import verification
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import check_text, load
from shype.policy.manifest import load_bundle, read_directory
from tests.decision import reference_model as model
from tests.decision.small_policies import world_of
from tests.lab.conftest import EXAMPLES, STILL, Factory

pytestmark = pytest.mark.lab

#: Levels whose text has no category, one, two neighbours, a run, and a range.
CONTEXTS = """\
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
vms: {v-many: many, v-driver: driver, v-pass: pass}
"""


def test_contexts(fresh_lab: Factory, tmp_path: Path) -> None:
    """It boots; and the hypervisor writes every context as the manifest does (or they differ)."""
    file = tmp_path / "levels.yaml"
    file.write_text(CONTEXTS)
    policy = load(file).policy
    build(policy, target="xen-4.17", out=tmp_path / "bundle")
    manifest = load_bundle(tmp_path / "bundle").manifest
    vms = ("v-many", "v-driver", "v-pass")
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm, type="pv", extra=STILL) for vm in vms}
    lab = fresh_lab(bundle=tmp_path / "bundle", files=files)
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    report = verification.loaded(lab, None)
    assert not report.different, report.to_json(every=False)
    assert contexts(lab) == {"Domain-0": "u:r:dom0_t:s0-s2:c0.c3"}
    for vm in vms:  # and real domains carry them
        started = lab.run(["shype", "run", "--json", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
        assert started.code == 0, started
        label = next(a.label for a in policy.assignments.values() if a.vm == vm)
        assert contexts(lab)[vm] == manifest.labels[label].context
    status = json.loads(lab.run(["shype", "status", "--json"], timeout=200).out)
    assert status["unknown"] == []


def contexts(lab: Lab) -> dict[str, str]:
    """By VM, from `xl list -Z`: its last column."""
    lines = lab.run(["xl", "list", "-Z"]).out.splitlines()[1:]
    return {line.split()[0]: line.split()[-1] for line in lines}


# -- a random policy --------------------------------------------------------------------------

#: With this one every operation but power is both permitted and denied.
SEED = int(os.environ.get("SHYPE_SEED", "2676"))
LABELS = 9


def policy_text(seed: int) -> str:
    """Labels that overlap in coalitions, switches and levels, and one guard."""
    chance = random.Random(seed)
    names = ["red", "blue"]
    ways = ["event", "grant", "argo"]

    def some(words: list[str], least: int = 1) -> str:
        return ", ".join(chance.sample(words, chance.randint(least, len(words))))

    def level() -> str:
        held = " {crew}" if chance.random() < 0.3 else ""
        return f'"{chance.choice(["low", "high"])}{held}"'

    lines = ["shype: 1", f'policy: {{name: random-{seed}, version: "1.0"}}', "coalitions:"]
    lines += [
        f"  {name}: {{mechanisms: [{some(ways, 2)}], write-up: {chance.choice(['true', 'false'])}}}"
        for name in names
    ]
    lines += ["levels: {order: [low, high], categories: [crew]}",
              "integrity: {order: [dirty, clean]}", "labels:", "  boss: {coalitions: all}"]
    lines += [
        f"  l{i}: {{coalitions: [{some(names)}], level: {level()}, "
        f"integrity: {chance.choice(['dirty', 'clean'])}, mechanisms: [{some(ways, 2)}]}}"
        for i in range(LABELS - 1)
    ]
    lines += ["guards:", "  gate: {from: red, to: blue, level: [low, high], "
              'integrity: [dirty, clean], reason: "a test"}', "host: {dom0: boss}"]
    return "\n".join(lines) + "\n"


def test_a_random_policy_is_decided_as_by_the_reference_model(
    fresh_lab: Factory, tmp_path: Path
) -> None:
    """Each run of the same seed tries the same policy; ``SHYPE_SEED=7 pytest ...`` another."""
    text = policy_text(SEED)
    policy, findings = check_text(text, "random.yaml", date(2030, 1, 1))
    assert policy is not None, (SEED, findings)
    world = world_of(policy, date(2030, 1, 1))
    build(policy, target="xen-4.17", out=tmp_path / "bundle")
    report = verification.loaded(fresh_lab(bundle=tmp_path / "bundle"), None)
    assert not report.different, report.to_json(every=False)
    assert len(report.rows) == LABELS ** 2 * 8
    seen = set()
    for row in report.rows:
        subject, object, operation = row.question
        reasons = model.may_do(world, subject, object, operation.value)
        wanted = Answer.PERMIT if reasons <= model.PERMISSIONS else Answer.DENY
        assert row.of(Side.LOADED) is wanted, f"seed {SEED}: {row.to_json()} {reasons}\n{text}"
        seen.add((operation, wanted))
    assert len(seen) == 6 * 2 + 2, seen


# -- something else is loaded -----------------------------------------------------------------

APART = """\
shype: 1
policy: {name: apart, version: "1.0"}
coalitions: [red, blue]
labels:
  boss: {coalitions: all}
  one: {coalitions: [red]}
  two: {coalitions: [blue]}
host: {dom0: boss}
"""
#: One label may map what the other grants, against the policy; nothing else is changed.
EXTRA = "(allow l_two_t l_one_t (grant (map_read)))\n"
CHANGED = "two", "one", Operation.MAP_READ


def test_a_loaded_policy_that_differs_is_found_by_asking_and_by_trying(
    fresh_lab: Factory, tmp_path: Path
) -> None:
    (tmp_path / "apart.yaml").write_text(APART)
    build(load(tmp_path / "apart.yaml").policy, target="xen-4.17", out=tmp_path / "bundle")
    source = (tmp_path / "bundle" / "policy.cil").read_text()
    (tmp_path / "e.cil").write_text(source + EXTRA)
    compile_cil(tmp_path / "e.cil", tmp_path / "e.bin")
    lab = fresh_lab(bundle=tmp_path / "bundle", policy_module=tmp_path / "e.bin")
    # The hypervisor has a policy of the same name: what the host asks so far says it is fine.
    assert lab.run(["shype", "status"], timeout=200).code == 0

    report = verification.all_four(lab, None)
    wrong = {row.question: row for row in report.rows if row.different}
    assert {*wrong} == {CHANGED}
    row, = wrong.values()
    assert [row.of(side) for side in Side] == [
        Answer.DENY, Answer.DENY, Answer.PERMIT, Answer.PERMIT]
    assert any("apart.yaml:" in rule for rule in row.rules)
    # By asking alone, down to the permission ...
    finer, = report.differences
    assert (finer.subject, finer.target, finer.what) == ("two", "one", "grant { map_read }")
    assert finer.said == {Side.BINARY: "deny", Side.LOADED: "permit"}
    # ... and by trying alone.
    assert row.differs(Side.SOURCE, Side.GUESTS)
    assert row.differs(Side.BINARY, Side.GUESTS)
    assert not row.differs(Side.LOADED, Side.GUESTS)
    attempt, = report.evidence
    assert [attempt[key] for key in ("from", "to", "mechanism", "result")] == [
        "try-one", "try-two", "grant-map-ro", "permitted"]

    # In dom0, the command of a host: exit code 1.
    done = lab.run(["shype", "verify"], timeout=300)
    assert done.code == 1, done
    assert "grant { map_read }" in done.out

    # A bundle of another policy: not its name, and its labels are unknown.
    out = tmp_path / "banks"
    build(load(EXAMPLES / "banks.yaml").policy, target="xen-4.17", out=out, validate=False)
    other = verification.loaded(lab, read_directory(out))
    whats = {(item.subject, item.what.split()[0]) for item in other.differences}
    assert {("policy", "boolean"), ("bank-a-db", "context")} <= whats
    assert all(row.different for row in other.rows)
    assert len(other.rows) == len(load_bundle(out).manifest.labels) ** 2 * 8
