"""What `shype plan` says of running VMs is what a reload does to them on the real hypervisor.

shype's own policies let nobody load another one, so the policies here have one
rule more.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.compile.flask.build import build, compile_cil
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.analysis.policies import ids, planned, policy
from tests.lab.conftest import STILL, Factory, guests

pytestmark = pytest.mark.lab

OLD = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [trade]
labels:
  host: {coalitions: all}
  web: {coalitions: [trade]}
  legacy: {coalitions: [trade]}
host: {dom0: host}
vms: {web-1: web, old-1: legacy}
"""
#: web gets another name; legacy is gone and its tombstone stays.
NEXT = """\
shype: 1
policy: {name: shop, version: "1.1", from: "1.0"}
coalitions: [trade]
labels:
  host: {coalitions: all}
  site: {coalitions: [trade], was: web}
retired: [legacy]
host: {dom0: host}
vms: {web-1: site}
"""
#: Without the tombstone.
BARE = NEXT.replace("retired: [legacy]\n", "").replace(", was: web", "").replace(
    '"1.1", from: "1.0"', '"1.2", from: "1.1"')
RULE = "(allow dom0_t security_t (security (load_policy)))\n"


def loadable(text: str, out: Path) -> Path:
    """The binary of a policy, with the rule that lets dom0 load another; its bundle is ``out``."""
    build(policy(text), target="xen-4.17", out=out)
    source = out.with_suffix(".cil")
    source.write_text((out / "policy.cil").read_text() + RULE)
    binary = out.with_suffix(".bin")
    compile_cil(source, binary)
    return binary


def load(lab: Lab, binary: Path) -> None:
    """What `xl loadpolicy` does with ``binary``."""
    lab.put("/run/policy.bin", binary.read_bytes())
    done = lab.run(["xl", "loadpolicy", "/run/policy.bin"], timeout=200)
    assert done.code == 0, done.err + lab.console()[-2000:]


def test_renamed_and_retired_labels_live_through_a_reload(
    fresh_lab: Factory, tmp_path: Path
) -> None:
    old, new, bare = (
        loadable(text, tmp_path / name)
        for text, name in ((OLD, "old"), (NEXT, "new"), (BARE, "bare"))
    )
    lab = fresh_lab(bundle=tmp_path / "old", policy_module=old)
    for vm in ("web-1", "old-1"):
        lab.put(f"/etc/xen/vms/{vm}.cfg", config(vm, type="pv", extra=STILL))
        assert lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=400).code == 0
    assert guests(lab) == {"web-1": "u:r:l_web_t:s0", "old-1": "u:r:l_legacy_t:s0"}
    listed = lab.run(["shype", "ps", "--json"], timeout=200)
    made = planned(OLD, NEXT, json.loads(listed.out))
    assert made.verdict == "needs-revocation"
    assert ids(made) == {"plan.label-retired"}

    load(lab, new)
    assert guests(lab) == {"web-1": "u:r:l_site_t:s0", "old-1": "u:r:l_legacy_t:s0"}

    state = {"domains": [
        {"domid": 1, "vm": "web-1", "label": "site"},
        {"domid": 2, "vm": "old-1", "label": "legacy"},
    ]}
    lost = planned(NEXT, BARE, state)
    assert lost.concerned(lost.found[0].weight) == ((2, "old-1"),)
    assert "plan.label-lost" in ids(lost)
    load(lab, bare)
    after = guests(lab)
    assert after["web-1"] == "u:r:l_site_t:s0"
    assert "l_legacy_t" not in after.get("old-1", "")
    load(lab, new)  # too late: a label that was lost does not come back
    assert "l_legacy_t" not in guests(lab).get("old-1", "")
