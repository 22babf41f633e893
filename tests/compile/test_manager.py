"""A policy with a manager: who may set booleans, and what dom0 may do to the manager, and when."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shype.compile.flask import cil, tables, verify
from shype.compile.flask.build import build
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary, read
from shype.policy.manifest import BOOT_MANAGER, load_bundle
from tests.compile.test_validation import DIGEST, compiled
from tests.host.builders import policy
from tests.host.manager.test_authority import POLICY

XEN = tables.load("xen-4.17")
DOM0, MANAGER, VM = "u:r:dom0_t:s0", "u:r:l_keeper_t:s0", "u:r:l_plain_t:s0"
SECURITY = "u:r:security_t:s0"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    place = tmp_path_factory.mktemp("managed")
    build(policy(place, POLICY), target="xen-4.17", out=place / "bundle")
    assert load_bundle(place / "bundle").policy.host.manager == "keeper"
    return read((place / "bundle/policy.bin").read_bytes())


def held(binary: Binary, source: str, target: str, cls: str, **values: bool) -> frozenset[str]:
    answers = Answers(binary, {**dict.fromkeys(binary.booleans, False), **values})
    return binary.classes[cls].names(answers.allowed(source, target, cls))


def test_one_subject_sets_booleans_and_nobody_loads_or_relaxes(binary: Binary) -> None:
    assert held(binary, MANAGER, SECURITY, "security") == {"setbool", "check_context"}
    assert "setbool" not in held(binary, DOM0, SECURITY, "security")
    for who in (DOM0, MANAGER, VM):
        assert not held(binary, who, SECURITY, "security") & {"load_policy", "setenforce"}


LIVE = POLICY.replace("manager: keeper", "manager: keeper, updates: live")


def test_the_manager_loads_and_dom0_never_does(tmp_path: Path) -> None:
    build(policy(tmp_path, LIVE), target="xen-4.17", out=tmp_path / "bundle")
    live = read((tmp_path / "bundle/policy.bin").read_bytes())
    xen = "u:r:xen_t:s0"
    assert "load_policy" not in held(live, MANAGER, SECURITY, "security")
    assert "load_policy" in held(live, MANAGER, SECURITY, "security", load_open=True)
    assert held(live, MANAGER, xen, "xen", load_open=True) == {"debug"}
    every = dict.fromkeys(live.booleans, True)
    for who in (DOM0, VM):
        assert not held(live, who, SECURITY, "security", **every) & {"load_policy", "setenforce"}
        assert "debug" not in held(live, who, xen, "xen", **every)


def test_dom0_builds_and_ends_the_manager_until_it_has_begun(binary: Binary) -> None:
    wanted = {"create", "pause", "destroy", "setvcpucontext"}
    assert wanted <= held(binary, DOM0, MANAGER, "domain", **{BOOT_MANAGER: True})
    assert "map_write" in held(binary, DOM0, MANAGER, "mmu", **{BOOT_MANAGER: True})
    for values in ({}, {"win_en": True}):  # its own window would be the first label's
        assert not held(binary, DOM0, MANAGER, "domain", **values) & wanted
        assert not held(binary, DOM0, MANAGER, "mmu", **values)
    assert {"pause", "destroy"} <= held(binary, DOM0, VM, "domain")
    assert {"getdomaininfo", "unpause"} <= held(binary, DOM0, MANAGER, "domain")


def test_the_manager_sees_all_and_does_nothing_to_them(binary: Binary) -> None:
    for target in (DOM0, VM, "u:r:unlabeled_t:s0"):
        assert held(binary, MANAGER, target, "domain") == {"getdomaininfo"}
        assert not held(binary, MANAGER, target, "mmu")


@pytest.mark.parametrize(("line", "report"), [
    ("(allow dom0_t security_t (security (setbool)))", "boss -> security_t.*setbool"),
    ("(allow l_plain_t security_t (security (setbool)))", "plain -> security_t.*setbool"),
    ("(allow l_keeper_t security_t (security (load_policy)))", "keeper -> security_t.*load_policy"),
    ("(allow dom0_t l_keeper_t (domain (destroy)))", "boss -> keeper.*destroy"),
    ("(booleanif win_en (true (allow dom0_t l_keeper_t (domain (create)))))",
     "boss -> keeper.*create.*iff boot_manager"),
    ("(allow l_keeper_t label (mmu (map_read)))", "keeper -> .*map_read"),
])
def test_validation_catches(line: str, report: str, tmp_path: Path) -> None:
    made = policy(tmp_path, POLICY)
    text = cil.generate(made, XEN) + f"(boolean policy_{DIGEST} false)\n"
    verify.verify(made, XEN, compiled(text, tmp_path), DIGEST)
    with pytest.raises(verify.Disagreement) as caught:
        verify.verify(made, XEN, compiled(f"{text}{line}\n", tmp_path), DIGEST)
    assert any(re.search(report, str(one)) for one in caught.value.mismatches), (
        caught.value.mismatches)


@pytest.mark.parametrize(("line", "report"), [
    ("(booleanif load_open (true (allow dom0_t security_t (security (load_policy)))))",
     "dom0_t -> security_t.*load_policy.*never"),
    ("(booleanif load_open (true (allow dom0_t xen_t (xen (debug)))))", "dom0_t -> xen_t.*never"),
    ("(booleanif win_en (true (allow l_keeper_t security_t (security (load_policy)))))",
     "l_keeper_t -> security_t.*load_policy.*never"),
    ("(allow l_keeper_t security_t (security (load_policy)))", "keeper -> security_t.*load_policy"),
])
def test_validation_of_a_live_one_catches(line: str, report: str, tmp_path: Path) -> None:
    made = policy(tmp_path, LIVE)
    text = cil.generate(made, XEN) + f"(boolean policy_{DIGEST} false)\n"
    verify.verify(made, XEN, compiled(text, tmp_path), DIGEST)
    with pytest.raises(verify.Disagreement) as caught:
        verify.verify(made, XEN, compiled(f"{text}{line}\n", tmp_path), DIGEST)
    assert any(re.search(report, str(one)) for one in caught.value.mismatches), (
        caught.value.mismatches)


def test_validation_catches_a_manager_that_cannot_be_built(tmp_path: Path) -> None:
    made = policy(tmp_path, POLICY)
    text = cil.generate(made, XEN).replace("(boolean boot_manager true)",
                                           "(boolean boot_manager false)")
    with pytest.raises(verify.Disagreement, match="booleans"):
        verify.verify(made, XEN, compiled(f"{text}(boolean policy_{DIGEST} false)\n", tmp_path),
                      DIGEST)
