"""The Xen permission map is complete, has reasons, and SETools can work with it."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli.main import main
from shype.compile.flask import reader, tables
from shype.compile.flask.permissions import page, permission_map, setools_format
from shype.compile.flask.permissions.permission_map import Bandwidth, Mechanism
from tests.compile.permission_page import PAGE
from tests.compile.small_reference import cil

VERSIONS = tables.shipped()


@pytest.mark.parametrize("target", VERSIONS)
def test_every_permission_of_every_release_has_one_entry_with_reason_and_source(
    target: str,
) -> None:
    table = tables.load(target)
    found = [entry for entry in permission_map.everything() if entry.holds(table.version)]
    wanted = {(cls, name) for cls, names in table.classes.items() for name in names}
    assert {(entry.cls, entry.permission) for entry in found} == wanted
    assert max(Counter((entry.cls, entry.permission) for entry in found).values()) == 1
    for entry in found:
        assert len(entry.why.split()) > 3, entry
        assert entry.source.startswith("xen/")
        assert entry.source.endswith(".c")
        assert not entry.why.endswith(".")


def test_there_is_no_entry_for_what_no_release_has() -> None:
    real = {
        (cls, name) for target in VERSIONS
        for cls, names in tables.load(target).classes.items() for name in names
    }
    for entry in permission_map.everything():
        assert (entry.cls, entry.permission) in real
        assert any(entry.holds(tables.load(target).version) for target in VERSIONS)


@pytest.mark.parametrize("target", VERSIONS)
def test_the_bit_that_xen_asks_for_when_it_sets_the_numa_layout(target: str) -> None:
    """flask_domctl() takes DOMAIN2__SET_VNUMAINFO in class domain; so the map says `both`."""
    table = tables.load(target)
    bit = table.classes["domain2"].index("set_vnumainfo")
    asked = ("domain", table.classes["domain"][bit])
    assert asked == ("domain", "getvcpuinfo")
    assert permission_map.load(table.version).entries[asked].direction == "both"


@pytest.mark.parametrize(("permission", "direction", "mechanism"), [
    ("event.send", "write", "event"), ("event.bind", "write", "event"),
    ("event.create", "none", "event"), ("grant.map_read", "both", "grant"),
    ("grant.copy", "write", "grant"), ("argo.send", "both", "argo"),
    ("mmu.map_read", "read", "memory"), ("mmu.map_write", "write", "memory"),
    ("domain.transition", "write", "relabel"), ("domain.setdebugging", "both", "introspection"),
    ("resource.use_iommu", "both", "device"), ("xen.readconsole", "read", "console"),
    ("security.check_context", "both", "policy"),
])
def test_directions(permission: str, direction: str, mechanism: str) -> None:
    cls, name = permission.split(".")
    entry = permission_map.load((4, 17)).entries[cls, name]
    assert (entry.direction, entry.mechanism.value) == (direction, mechanism)


def test_what_flows_back_is_only_a_trace() -> None:
    known = permission_map.load((4, 17)).entries
    assert known["grant", "map_read"].write is Bandwidth.TRACE
    assert known["argo", "send"].read is Bandwidth.TRACE


def test_weights_are_those_of_setools_and_fall_with_the_bandwidth() -> None:
    weights = [band.weight for band in Bandwidth]
    assert weights == sorted(weights, reverse=True)
    assert {1, 10} <= {*weights} <= {*range(1, 11)}


def test_unknown_permissions_are_an_error_that_names_them_all() -> None:
    known = permission_map.load((4, 17))
    with pytest.raises(BadInput) as caught:
        known.require(
            [("event", "send"), ("nonsense", "b"), ("event", "new"), ("nonsense", "a")], "it"
        )
    assert caught.value.id == "permission-map.unknown"
    assert "event.new, nonsense.a, nonsense.b" in caught.value.message


def test_releases_have_their_own_entries() -> None:
    old, new = (permission_map.load(version).entries for version in ((4, 17), (4, 22)))
    assert ("xen", "privprofile") in old
    assert ("xen", "privprofile") not in new
    assert ("domain2", "get_domain_state") not in old
    assert ("domain2", "get_domain_state") in new


_GOOD = 'why = "a reason of some words", source = "xen/common/x.c"'


@pytest.mark.parametrize(("text", "problem"), [
    ("x =", "Invalid value"),
    ("x = 1", "x is not a class"),
    ("[x]\ny = 1", "x.y is no table"),
    ("[x]\ny = { by = 'event' }", "no reason"),
    ("[x]\ny = { by = 'event', why = 'because', source = 'linux/x.c' }", "no source"),
    (f"[x]\ny = {{ {_GOOD} }}", "x.y: None is not a valid Mechanism"),
    (f"[x]\ny = {{ by = 'event', read = 'much', {_GOOD} }}", "'much' is not a valid Bandwidth"),
    (f"[x]\ny = {{ by = 'event', since = 'new', {_GOOD} }}", "'new' is not a Xen release"),
    (f"[x]\ny = {{ by = 'event', {_GOOD}, more = 1 }}", "x.y is no table"),
    (f"[x]\ny = [ {{ by = 'event', {_GOOD} }}, {{ by = 'argo', {_GOOD} }} ]", "two meanings"),
    (f"[x]\ny = [ {{ by = 'event', until = '4.18', {_GOOD} }},"
     f" {{ by = 'argo', since = '4.18', {_GOOD} }} ]", "two meanings"),
])
def test_a_map_that_is_wrong_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=r"permission-map\.invalid") as caught:
        permission_map.parse(text, "mine")
    assert problem in caught.value.message


def test_meanings_by_release() -> None:
    entries = permission_map.parse(
        f"[x]\ny = [ {{ by = 'event', until = '4.17', {_GOOD} }},"
        f" {{ by = 'argo', since = '4.18', read = 'bulk', {_GOOD} }} ]", "mine",
    )
    by = [permission_map.load(version, entries).entries["x", "y"].mechanism
          for version in ((4, 17), (4, 18))]
    assert by == [Mechanism.EVENT, Mechanism.ARGO]


def test_the_page() -> None:
    assert PAGE.read_text(encoding="utf-8") == page.text()


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["permission-map", "--xen", "4.17"]) == 0
    assert "grant copy" in capsys.readouterr().out
    assert main(["permission-map", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["target"] == VERSIONS[-1]
    assert len(value["permissions"]) == sum(
        len(names) for names in tables.load(VERSIONS[-1]).classes.values()
    )
    assert main(["permission-map", "--xen", "4.1"]) == 2
    assert "target.unknown" in capsys.readouterr().err


def test_a_release_with_permissions_that_the_map_does_not_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tables.load("xen-4.17").to_json()
    table["classes"].append({"name": "future", "permissions": ["leak"]})  # type: ignore[attr-defined]
    (tmp_path / "t.json").write_text(json.dumps(table))
    (tmp_path / "m.toml").write_text(f"[future]\nleak = {{ by = 'event', read = 'bulk', {_GOOD} }}")
    words = ["permission-map", "--tables", str(tmp_path / "t.json"), "--format", "setools"]
    assert main(words) == 2
    assert "future.leak" in capsys.readouterr().err
    assert main([*words, "--map", str(tmp_path / "m.toml")]) == 0
    assert "leak r" in capsys.readouterr().out


#: Prints the direct flows of one type that SETools finds with a map, and what it skips.
_SETOOLS = """
import sys, setools, logging
logging.basicConfig(level=logging.WARNING)
policy = setools.SELinuxPolicy(sys.argv[1])
known = setools.PermissionMap(sys.argv[2])
known.map_policy(policy)
unmapped = [f"{m.class_}.{m.perm}" for m in known if m.direction == "u"]
print("unmapped", *unmapped)
flows = setools.InfoFlowAnalysis(policy, known, min_weight=4)
print("to", *sorted({str(step.target) for step in flows.infoflows(sys.argv[3])}))
argo = [str(rule) for step in flows.infoflows(sys.argv[3]) for rule in step.rules
        if str(step.target) == sys.argv[4] and str(rule.tclass) == "argo"]
print("argo", len(argo))
"""


def test_setools_finds_the_argo_flow_with_this_map(tmp_path: Path) -> None:
    (tmp_path / "p.cil").write_text(cil())
    (tmp_path / "xen.map").write_text(
        setools_format.text(permission_map.load((4, 17)), tables.load("xen-4.17"))
    )
    subprocess.run(
        ["secilc", "-t", "xen", "-M", "false", "-c", "30", "-f", "/dev/null", "-o", "p.bin",
         "p.cil"], cwd=tmp_path, check=True,
    )
    done = subprocess.run(
        [reader.INTERPRETER, "-c", _SETOOLS, "p.bin", "xen.map", "apart_t", "guest_t"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )
    unmapped, to, argo = done.stdout.splitlines()
    assert unmapped == "unmapped"
    assert {"guest_t", "dom0_t", "apart_ch"} <= set(to.split())
    assert argo == "argo 1"
    assert "not mapped" not in done.stderr


def test_setools_weighs_every_direction_by_its_wider_use() -> None:
    lines = setools_format.text(permission_map.load((4, 17)), tables.load("xen-4.17")).split("\n")
    words = [line.split() for line in lines]
    assert ["map_read", "r", "10"] in words  # its trace to the granter is left out
    assert ["create", "n", "1"] in words
    assert ["status", "r", "1"] in words
    assert ["perfcontrol", "b", "7"] in words
