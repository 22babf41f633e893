"""The findings about Xen in docs/findings, tried on the real hypervisor.

These tests hold as long as Xen does what the pages say. One that fails says that this Xen
does otherwise: look again, and change the page.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shype.compile.flask.build import build, compile_cil
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.analysis.policies import policy
from tests.lab.conftest import STILL

pytestmark = [pytest.mark.lab, pytest.mark.findings]

Report = dict[str, Any]
PROGRAM = Path(__file__).with_name("findings_program.py")
FLOORS = """\
shype: 1
policy: {name: floors, version: "1.0"}
coalitions: [work, a-only, b-only]
walls: {rivals: [red, blue]}
levels: {order: [low, high]}
labels:
  manager: {coalitions: all}
  low-a: {coalitions: [work, a-only], level: low, wall: [red]}
  low-b: {coalitions: [work, b-only], level: low}
  high: {coalitions: [work], level: high}
  rival: {coalitions: [b-only], level: low, wall: [blue]}
host: {dom0: manager}
vms: {low-a: low-a, low-b: low-b, high: high}
"""
#: low-a and low-b have nothing in common any more.
NEXT = FLOORS.replace("[work, b-only]", "[b-only]").replace('"1.0"', '"1.1", from: "1.0"')
#: For a guest's kernel: it asks for grants of version 2.
VERSION_2 = "grant_table.version=2"
#: What docs/findings/README.md says to put on Xen's command line.
HARDENED = "gnttab=max-ver:1,no-transitive,no-transfer"
#: No policy of shype's lets anybody load another one; this experiment needs it.
RULE = "(allow dom0_t security_t (security (load_policy)))\n"


def experiments(lab: Lab, name: str, guests: Sequence[str]) -> Report:
    """The report of one set of findings_program.py, and all that Xen printed as ``console``."""
    probe.wait_for(lab.run, guests, timeout=400)
    done = lab.run([*probe.ENVIRONMENT, "python3", "-c", PROGRAM.read_text(), name], timeout=500)
    assert done.code == 0, done.err
    report: Report = json.loads(done.out)
    return {**report, "console": lab.console()}


def start(lab: Lab, vm: str, text: str, *command: str) -> None:
    path = f"/etc/xen/vms/{vm}.cfg"
    lab.put(path, text)
    if command:
        done = lab.run([*command, path], timeout=400)
        assert done.code == 0, done.out + done.err


@pytest.fixture(scope="module")
def reference(lab_built: builder.Built) -> Report:
    """Xen's own policy."""
    label = "system_u:system_r:"
    with Lab.up(policy_module=lab_built.reference) as lab:
        # only a PVH guest can have an Argo ring
        start(lab, "dom", config("dom", seclabel=f"{label}domU_t"), "xl", "create")
        start(lab, "iso", config("iso", type="pv", seclabel=f"{label}isolated_domU_t"),
              "xl", "create")
        start(lab, "prot", config("prot", type="pv", extra=STILL, seclabel=f"{label}prot_domU_t"))
        return experiments(lab, "reference", ["iso", "dom"])


@pytest.fixture(scope="module")
def floors(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A policy by shype, with two levels."""
    work = tmp_path_factory.mktemp("floors")
    for name, text in (("old", FLOORS), ("next", NEXT)):
        build(policy(text), target="xen-4.17", out=work / name)
        source = work / f"{name}.cil"
        source.write_text((work / name / "policy.cil").read_text() + RULE)
        compile_cil(source, work / f"{name}.bin")
    with Lab.up(bundle=work / "old", policy_module=work / "old.bin") as lab:
        lab.put("/run/next.bin", (work / "next.bin").read_bytes())
        for vm in ("low-a", "low-b", "high"):
            args = VERSION_2 if vm == "low-a" else ""
            start(lab, vm, config(vm, type="pv", args=args), "shype", "run")
        return experiments(lab, "levels", ["low-a", "low-b", "high"])


@pytest.fixture(scope="module")
def silo(lab_built: builder.Built) -> Report:
    """The other security module of Xen: guests reach dom0 only.  With docs/findings' settings."""
    # no snapshot: what Xen prints as it boots is looked at
    with Lab.up(flask="disabled", xen_args=("xsm=silo", HARDENED), snapshot=False) as lab:
        assert "Initialising XSM SILO mode" in lab.console()
        for vm in ("a", "b"):
            start(lab, vm, config(vm, type="pv", args=VERSION_2), "xl", "create")
        return experiments(lab, "silo", ["a", "b"])


def refused_but_arrived(report: Report) -> bool:
    """Whether the plain copy was refused, and the text came nevertheless."""
    return bool(report["plain"]["result"] == "denied" and report["compose"]["result"] == "ok"
                and report["arrived"] == report["sent"])


def test_0001_argo_leaves_and_reaches_the_isolated_domain(reference: Report) -> None:
    """Received where there is a ring; a PV guest has none, and is not refused by FLASK."""
    ways = dict(reference["to_dom"])
    assert ways.pop("argo") == "permitted"
    assert set(ways.values()) == set(reference["to_iso"].values()) == {"denied"}


def test_0002_a_third_domain_writes_by_copying_between_pages_of_others(
    reference: Report, floors: Report, silo: Report
) -> None:
    for report in (reference["compose_to_dom"], reference["compose_to_iso"], floors["compose"],
                   silo["compose_a_to_b"], silo["compose_b_to_a"]):
        assert refused_but_arrived(report), report
    assert set(floors["down"].values()) == {"denied"}
    assert "permitted" not in {*silo["a_to_b"].values(), *silo["b_to_a"].values()}


def test_0003_a_transitive_grant_hides_whose_page_it_is(floors: Report) -> None:
    found = floors["transit"]
    assert found["reader_direct"]["result"] == found["relay_direct"]["result"] == "denied"
    assert found["transit"]["result"] == "ok"
    assert found["copy"] == {"text": found["sent"], "result": "ok"}


def test_0003_the_hypervisor_can_be_told_to_have_none(silo: Report) -> None:
    assert silo["transit"]["errno_name"] == "EOPNOTSUPP"  # the guest got version 1
    assert 'parameter "gnttab" has invalid value' not in silo["console"]


def test_0004_any_guest_reads_names_and_values_of_all_booleans(
    reference: Report, floors: Report
) -> None:
    assert reference["booleans"]["booleans"] == "guest_writeconsole=1 prot_doms_locked=0"
    seen = dict(word.split("=") for word in floors["booleans"]["booleans"].split())
    assert (seen["run_red"], seen["run_blue"], seen["win_en"]) == ("1", "0", "0")
    assert reference["facts"]["result"] == "ok"
    assert (reference["facts"]["enforcing"], reference["facts"]["mls"]) == (1, 0)
    assert reference["facts"]["avc_lookups"] > 0


def test_0005_the_number_of_access_checks_carries_bits(reference: Report) -> None:
    found = reference["lookups"]
    assert found["read"] == found["sent"], found


def test_0006_the_status_of_a_read_only_grant_carries_bits(floors: Report) -> None:
    found = floors["status"]
    assert found["listener"]["bits"] == found["sent"], found
    assert found["sender"]["result"] == "ok"


def test_0007_a_guest_floods_the_log_with_its_denials(reference: Report) -> None:
    found = reference["flood"]
    lines = [line for line in reference["console"].splitlines()
             if "map_read" in line and "isolated_domU_t" in line and "avc:  denied" in line]
    assert len(lines) >= found["failed"] > 100
    assert (found["evidence_before"], found["evidence_after"]) == (True, False)
    # without enforcement, the first is the only one
    assert reference["permissive"]["denials"] == 1, reference["permissive"]


def test_0008_a_mapping_outlives_the_policy_that_allowed_it(floors: Report) -> None:
    assert floors["load"] == 0
    assert floors["kept_after"] == floors["kept_before"][1]
    assert floors["new_copy"]["result"] == "denied"


def test_0009_vnuma_is_set_by_who_may_read_vcpus(floors: Report) -> None:
    """shype gives nobody domain2.set_vnumainfo, and dom0 domain.getvcpuinfo."""
    assert floors["set_vnuma"] == 0
    assert "Cannot save a guest with vNUMA configured" in floors["save"]["err"]


def test_0010_operations_without_a_permission_are_refused_to_dom0(reference: Report) -> None:
    assert reference["soft_reset_cont"] == reference["broken_page"] == -1
    assert [line.split()[-1] for line in reference["unknown"]] == ["23.", "67."]


def test_0013_the_shipped_mls_policy_does_not_compile(
    lab_built: builder.Built, tmp_path: Path
) -> None:
    archive, = lab_built.xen.parent.glob("xen_*.orig.tar.*")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data", members=[
            member for member in tar.getmembers()
            if "/tools/flask/policy/" in member.name or "/xen/xsm/flask/policy/" in member.name
        ])
    root, = tmp_path.iterdir()
    for mls, works in (("n", True), ("y", False)):
        out = tmp_path / f"mls-{mls}"
        out.mkdir()
        done = subprocess.run(
            ["make", "-C", root / "tools/flask/policy", "-f", "Makefile.common",
             f"FLASK_BUILD_DIR={out}", f"POLICY_FILENAME={out / 'policy'}",
             "OUTPUT_POLICY=30", f"CONFIG_MLS={mls}"],
            capture_output=True, text=True, check=False,
        )
        assert (done.returncode == 0) is works, done.stderr
    assert "permission getextvcpucontext is not defined for class domain" in done.stderr


def test_0014_dom0_cannot_start_the_protected_type_nor_end_it(reference: Report) -> None:
    found = reference["protected"]
    assert reference["unpause"], found
    assert "Unpausing domain: Permission denied" in found["err"]
    assert (found["seen"], found["hidden"], found["back"]) == (True, True, True)
    assert found["destroy_locked"] != 0


def test_0015_an_error_tells_whether_a_domain_exists(reference: Report) -> None:
    assert reference["absent"]["errno_name"] == "EPERM"
    assert reference["present"]["errno_name"] == "EACCES"


def test_0016_a_guest_uses_up_the_event_channels_of_another(floors: Report, silo: Report) -> None:
    found = floors["plant"]
    assert found["before"]["result"] == "ok", found
    assert found["plant"]["planted"] > 900, found
    assert (found["plant"]["errno_name"], found["after"]["errno_name"]) == ("ENOSPC", "ENOSPC")
    assert floors["plant_dom0"]["errno_name"] == "EACCES"
    # a control experiment: without FLASK, Xen refuses
    assert (silo["plant"]["planted"], silo["plant"]["errno_name"]) == (0, "EPERM")


def test_0017_a_guest_sees_the_event_channels_of_every_other(
    reference: Report, floors: Report, silo: Report
) -> None:
    for seen in (reference["seen"]["dom"], reference["seen"]["dom0"], floors["seen"]["dom0"]):
        assert seen["connected"] > 0, seen
    # shype gives VMs no `event status`, which Xen asks them for, and not who looks
    assert floors["seen"]["high"]["connected"] == 0
    assert silo["seen"]["errno_name"] == "EPERM"  # a control experiment, as above
