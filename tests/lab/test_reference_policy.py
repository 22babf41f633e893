"""Xen's own reference policy, as the lab builds it: what it permits, against what it documents.

Boots nothing. The statements are those of docs/misc/xsm-flask.txt in the Xen tree.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shype.cli.main import main
from shype.compile.flask import reader, tables
from shype.compile.flask.analyze import flows, policy_file
from shype.compile.flask.analyze.paths import Paths, find
from shype.compile.flask.analyze.steps import steps
from shype.compile.flask.permissions import permission_map, setools_format
from shype.compile.flask.reader import Binary
from shype.lab import builder

pytestmark = pytest.mark.lab

GUESTS = ("domU_t", "isolated_domU_t", "prot_domU_t", "nomigrate_t", "dm_dom_t")


@pytest.fixture(scope="module")
def reference(lab_built: builder.Built) -> Path:
    return lab_built.reference


@pytest.fixture(scope="module")
def binary(reference: Path) -> Binary:
    return policy_file.read(reference)


def mechanisms(found: flows.Flows, source: str, sink: str) -> set[str]:
    return {kind.mechanism for kind in found.kinds(find(found, source), find(found, sink))}


def test_isolated_domains_can_send_to_every_other_guest(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Documented: "isolated_domU_t can only communicate with dom0"."""
    words = ["analyze", str(reference), "--from", "isolated_domU_t"]
    assert main([*words, "--to", "domU_t", "--why"]) == 0
    out = capsys.readouterr().out
    assert "allow domain_type domain_type:argo { register_single_source send };" in out
    assert "subject to a constraint" not in out.split("note:")[0]
    assert main([*words, "--to", "domU_t", "--via", "event", "--via", "grant",
                 "--trust", "xenstore_t"]) == 1


@pytest.mark.parametrize("guest", GUESTS)
def test_it_is_argo_alone_that_reaches_every_guest(binary: Binary, guest: str) -> None:
    found = flows.analyse(binary)
    assert found.target.target == "xen-4.17"
    assert mechanisms(found, "isolated_domU_t", guest) == {"argo"}
    assert mechanisms(found, "domU_t", "isolated_domU_t") == {"argo"}


def test_users_are_kept_apart_for_events_and_grants_and_not_for_argo(binary: Binary) -> None:
    found = flows.analyse(binary)
    domu = find(found, "domU_t")
    doubts = {kind.mechanism: found.doubt(kind, domu, domu).constraint
              for kind in found.kinds(domu, domu)}
    assert doubts == {"argo": False, "event": True, "grant": True}


def test_dom0_may_keep_what_it_mapped_of_a_nomigrate_domain(binary: Binary) -> None:
    """Documented: "whose memory cannot be read by dom0 once created"."""
    found = flows.analyse(binary, via=["mmu.map_read"])
    (step,) = steps(found, find(found, "nomigrate_t"), find(found, "dom0_t"))
    assert step.how == "set up while they were dom0_t and nomigrate_t_building, and it stays"


def test_locking_does_not_take_back_mappings_and_dom0_holds_the_key(binary: Binary) -> None:
    """Documented: creation of prot_domU_t "can be disabled with a boolean"."""
    locked = {"prot_doms_locked": True}
    found = flows.analyse(binary, fixed=locked, via=["memory"])
    assert mechanisms(found, "prot_domU_t", "dom0_t") == {"memory"}
    since_boot = flows.analyse(binary, fixed=locked, via=["memory"], always=True)
    assert not mechanisms(since_boot, "prot_domU_t", "dom0_t")
    keys = flows.analyse(binary, via=["security.setbool", "security.load_policy"])
    assert mechanisms(keys, "dom0_t", "security_t") == {"policy"}


def test_nothing_else_leads_out_of_isolation(binary: Binary) -> None:
    found = flows.analyse(binary, via=["event", "grant", "memory", "device", "relabel"])
    paths = Paths(found, trusted=["xenstore_t"])
    reach = paths.reach()[find(found, "isolated_domU_t")]
    names = {found.names.types[i] for i in range(len(found.names.types)) if reach >> i & 1}
    assert names == {"dom0_t", "xenstore_t", "isolated_domU_t_channel"}


_SETOOLS = """
import sys, setools
policy = setools.SELinuxPolicy(sys.argv[1])
known = setools.PermissionMap(sys.argv[2])
flows = setools.InfoFlowAnalysis(policy, known, min_weight=10)
for step in flows.infoflows("isolated_domU_t"):
    if str(step.target) == "domU_t":
        print(*step.rules)
"""


def test_setools_finds_it_too_with_this_map(reference: Path, tmp_path: Path) -> None:
    known, table = permission_map.load((4, 17)), tables.load("xen-4.17")
    (tmp_path / "xen.map").write_text(setools_format.text(known, table))
    done = subprocess.run(
        [reader.INTERPRETER, "-c", _SETOOLS, reference, tmp_path / "xen.map"],
        check=True, capture_output=True, text=True,
    )
    assert "argo { register_single_source send }" in done.stdout
