"""The Xen that the lab is built from: the audit finds what experiments in the lab had shown."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from shype.analysis.hooks.audit import Row, Verdict, When, audit
from shype.compile.flask.permissions import permission_map
from shype.lab import paths

pytestmark = pytest.mark.lab

#: Experiments: a policy was changed while two VMs had a channel and a mapping.
KNOWN = {
    "EVTCHNOP_send": (When.EACH_USE, {"event.send"}),
    "EVTCHNOP_status": (When.EACH_USE, {"event.status"}),
    "EVTCHNOP_reset": (When.EACH_USE, {"event.reset"}),
    "EVTCHNOP_alloc_unbound": (When.SET_UP, {"event.create", "event.bind"}),
    "EVTCHNOP_bind_interdomain": (When.SET_UP, {"event.create", "event.bind"}),
    "EVTCHNOP_close": (When.NONE, set()),
    "EVTCHNOP_unmask": (When.NONE, set()),
    "GNTTABOP_copy": (When.EACH_USE, {"grant.copy"}),
    "GNTTABOP_unmap_grant_ref": (When.EACH_USE, {"grant.unmap"}),
    "GNTTABOP_map_grant_ref": (When.SET_UP, {"grant.map_read", "grant.map_write"}),
    "GNTTABOP_setup_table": (When.EACH_USE, {"grant.setup"}),
    "GNTTABOP_query_size": (When.EACH_USE, {"grant.query"}),
    "GNTTABOP_set_version": (When.NONE, set()),
    "XEN_ARGO_OP_sendv": (When.EACH_USE, {"argo.send"}),
    "XEN_DOMCTL_createdomain": (When.SET_UP, {"domain.create"}),
    "XEN_DOMCTL_iomem_permission": (When.SET_UP, {"resource.add", "resource.use_iommu"}),
    "XEN_DOMCTL_pausedomain": (When.EACH_USE, {"domain.pause"}),
    "FLASK_SETBOOL": (When.EACH_USE, {"security.setbool"}),
    "FLASK_LOAD": (When.EACH_USE, {"security.load_policy"}),
    "FLASK_RELABEL_DOMAIN": (When.SET_UP, {"domain.transition"}),
}
#: Read by every guest, whatever the policy says.
OPEN = ("FLASK_GETBOOL", "FLASK_GET_PEER_SID", "FLASK_GETAVC_THRESHOLD",
        "FLASK_AVC_HASHSTATS", "FLASK_AVC_CACHESTATS", "XENMEM_sharing_op_audit")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    archives = sorted(paths.home().glob("stages/xen-*/xen_*.orig.tar.*"))
    if not archives:
        pytest.skip("the lab is not built: no Xen source in its cache")
    into = tmp_path_factory.mktemp("xen")
    with tarfile.open(archives[-1]) as archive:
        top = next(iter(archive)).name.split("/")[0]
        members = [each for each in archive if each.name.startswith(f"{top}/xen/")
                   and Path(each.name).suffix in (".c", ".h", "") and each.isfile()]
        archive.extractall(into, members, filter="data")
    _, found = audit(into / top)
    return {row.operation.name: row for row in found}


@pytest.mark.parametrize("name", KNOWN)
def test_when_it_is_checked(name: str, rows: dict[str, Row]) -> None:
    when, permissions = KNOWN[name]
    row = rows[name]
    assert row.when is when, (row.verdict, row.open)
    assert set(row.permissions) >= permissions
    assert bool(row.checks) == bool(permissions)
    assert not row.finding


@pytest.mark.parametrize("name", OPEN)
def test_what_nothing_guards(name: str, rows: dict[str, Row]) -> None:
    assert rows[name].verdict is Verdict.UNMEDIATED
    assert rows[name].finding


def test_a_grant_transfer_is_checked_after_the_page_is_taken(rows: dict[str, Row]) -> None:
    row = rows["GNTTABOP_transfer"]
    assert row.verdict is Verdict.PARTLY
    assert [check.hook for check in row.checks] == ["xsm_grant_transfer"]


def test_the_whole_tree_is_read(rows: dict[str, Row]) -> None:
    verdicts = [row.verdict for row in rows.values()]
    assert len(rows) > 400
    assert verdicts.count(Verdict.MEDIATED) > 280
    assert verdicts.count(Verdict.ABSENT) < 30
    assert sum(row.finding for row in rows.values()) < 25


def test_the_permission_map_knows_all_that_is_asked(rows: dict[str, Row]) -> None:
    known = permission_map.load((4, 17)).entries
    asked = {name.partition(" ")[0] for row in rows.values() for name in row.permissions
             if not name.startswith("(")}  # (unknown: of an operation that Xen does not know)
    assert len(asked) > 140
    assert {tuple(name.split(".")) for name in asked} <= set(known)
    # A bit of one class is used with another: a read permission guards a write.
    (wrong,) = rows["XEN_DOMCTL_setvnumainfo"].permissions
    assert wrong.startswith("domain.getvcpuinfo ")
    assert known["domain", "getvcpuinfo"].write is not None
    assert "domain2.set_vnumainfo" not in asked
