"""A random policy on the real hypervisor, judged by the reference model of the decision tests.

Each run of the same seed tries the same policy; ``SHYPE_SEED=7 pytest ...`` tries another.
"""

from __future__ import annotations

import json
import os
import random
from datetime import date
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import probe
from shype.lab.guests import config
from shype.lab.probe import Result, Way
from shype.policy.loader import check_text
from tests.decision import reference_model as model
from tests.decision.small_policies import world_of

from .conftest import Factory

pytestmark = pytest.mark.lab

#: With this one every way is both permitted and denied, and integrity alone denies some.
SEED = int(os.environ.get("SHYPE_SEED", "2676"))
GUESTS = 4


def policy_text(seed: int) -> str:
    """A policy of four labels that overlap in coalitions, switches and levels, one a guard."""
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
        for i in range(GUESTS - 1)
    ]
    lines += ["guards:", "  gate: {from: red, to: blue, level: [low, high], "
              'integrity: [dirty, clean], reason: "a test"}']
    lines += ["host: {dom0: boss}",
              "vms: {l0: l0, l1: l1, l2: l2, gate: gate}"]
    return "\n".join(lines) + "\n"


def test_the_hypervisor_agrees_with_the_reference_model(
    fresh_lab: Factory, tmp_path: Path
) -> None:
    text = policy_text(SEED)
    policy, findings = check_text(text, "random.yaml", date(2030, 1, 1))
    assert policy is not None, (SEED, findings)
    world = world_of(policy, date(2030, 1, 1))
    build(policy, target="xen-4.17", out=tmp_path / "bundle")
    vms = [*(f"l{i}" for i in range(GUESTS - 1)), "gate"]
    lab = fresh_lab(bundle=tmp_path / "bundle",
                    files={f"/etc/xen/vms/{vm}.cfg": config(vm) for vm in vms})
    for vm in vms:
        done = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
        assert done.code == 0, done.out + done.err
    probe.wait_for(lab.run, vms, timeout=300)
    outcomes = set()
    for attempt in probe.probe_matrix(lab.run, vms):
        way: Way = attempt.mechanism
        pair = (attempt.source, attempt.target)
        subject, object = reversed(pair) if way.pulled else pair
        reasons = model.may_do(world, subject, object, str(way.operation))
        expected = Result.PERMITTED if reasons <= model.PERMISSIONS else Result.DENIED
        told = f"seed {SEED}: {reasons}\n{json.dumps(attempt.to_json(), indent=1)}\n{text}"
        assert attempt.result is expected, told
        outcomes.add(attempt.result)
    assert outcomes == {Result.PERMITTED, Result.DENIED}, text
