"""Translation validation must catch a compiler or a secilc that goes wrong, each in its way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from shype.base.errors import Internal, Unavailable
from shype.compile.flask import build, cil, reader, tables, verify
from shype.compile.flask.reader import Access, Binary
from shype.policy.manifest import Validation
from shype.policy.model import Policy
from tests.compile.policies import BANKS, EDGES
from tests.policy.strategies import policies

XEN = tables.load("xen-4.17")
DIGEST = "0" * 64
TEXT = cil.generate(BANKS, XEN) + f"(boolean policy_{DIGEST} false)\n"
WINDOWS = [line for line in TEXT.splitlines() if line.startswith("(booleanif ")]


def compiled(text: str, folder: Path) -> Binary:
    """What the binary made from CIL says."""
    (folder / "p.cil").write_text(text)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    return reader.read(folder / "p.bin")


def validate(text: str, folder: Path, policy: Policy = BANKS) -> Validation:
    return verify.verify(policy, XEN, compiled(text, folder), DIGEST)


def test_correct_binary_passes(tmp_path: Path) -> None:
    done = validate(TEXT, tmp_path)
    assert (done.pairs, done.checks) == (49, 245)
    assert done.reader.startswith("setools 4.")


def _add(line: str) -> Callable[[str], str]:
    return lambda text: text + line + "\n"


def _swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, f"the compiler no longer writes {old}"
        return text.replace(old, new)

    return change


_A, _B = "l_bank_a_db_t", "l_bank_b_db_t"
_WINDOW_OF_MARKET = next(line for line in WINDOWS if "l_market_data_t" in line)
_WINDOW_OF_A = next(line for line in WINDOWS if _A in line)

#: What goes wrong, and a regular expression that the report must match.
MUTATIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "grant map across coalitions": (
        _add(f"(allow {_A} {_B} (grant (map_read)))"),
        r"bank-a-db -> bank-b-db, grant, .*map_read.*policy says deny, binary says permit"),
    "grant copy across coalitions": (
        _add(f"(allow {_B} {_A} (grant (copy)))"), r"bank-b-db -> bank-a-db, grant"),
    "event channel across coalitions": (
        _add(f"(allow {_A} {_B} (event (create bind send)))"), r"bank-a-db -> bank-b-db, event"),
    "argo across coalitions": (
        _add(f"(allow {_A} {_B} (argo (send)))"), r"bank-a-db -> bank-b-db, argo"),
    "argo wildcard ring in a coalition": (
        _add("(allow ste_market ste_market (argo (register_any_source)))"), r"register_any_source"),
    "grant transfer in a coalition": (
        _add("(allow ste_market ste_market (grant (transfer)))"), r"transfer"),
    "foreign mapping by a VM": (
        _add(f"(allow {_A} l_bank_a_desk_t (mmu (map_read)))"),
        r"bank-a-db -> bank-a-desk, foreign"),
    "VM pauses VM": (
        _add(f"(allow {_A} l_bank_a_desk_t (domain (pause)))"), r"bank-a-db -> bank-a-desk, contr"),
    "VM maps dom0": (_add(f"(allow {_A} dom0_t (grant (map_read)))"), r"bank-a-db -> manager"),
    "VM may create": (_add(f"(allow {_A} {_A} (domain (create)))"), r"bank-a-db -> bank-a-db"),
    "VM sets booleans": (
        _add(f"(allow {_A} security_t (security (setbool)))"), r"bank-a-db -> security_t.*setbool"),
    "dom0 loads policies": (
        _add("(allow dom0_t security_t (security (load_policy)))"), r"load_policy"),
    "dom0 goes permissive": (
        _add("(allow dom0_t security_t (security (setenforce)))"), r"setenforce"),
    "dom0 creates unlabelled VMs": (
        _add("(allow dom0_t domU_t (domain (create)))"), r"manager -> domU_t"),
    "dom0 relabels": (
        _add(f"(allow dom0_t {_A} (domain2 (relabelto)))"), r"relabelto"),
    "unlabelled VM reaches a label": (
        _add(f"(allow unlabeled_t {_A} (grant (map_read)))"), r"unlabeled_t -> bank-a-db"),
    "domU_t reaches a label": (_add(f"(allow domU_t {_A} (event (send)))"), r"domU_t -> bank-a-db"),
    "VM uses the hypervisor's console": (
        _add("(allow label xen_t (xen (writeconsole)))"), r"-> xen_t, xen . writeconsole"),
    "unconditional create": (
        _add(f"(allow dom0_t {_A} (domain (create)))"), r"manager -> bank-a-db.*create"),
    "window without conflict": (
        _swap(_WINDOW_OF_A, _WINDOW_OF_A.replace("(not run_bank_b)", "win_en")), r"run_bank_b"),
    "window with the wrong conflict": (
        _swap(_WINDOW_OF_A, _WINDOW_OF_A.replace("run_bank_b", "run_bank_a")), r"run_bank"),
    "window without the enable boolean": (
        _swap(_WINDOW_OF_A, _WINDOW_OF_A.replace("win_en", "(not win_b0)")), r"bank-a-db.*iff"),
    "two labels in one window": (
        _swap(_WINDOW_OF_MARKET, _WINDOW_OF_MARKET.replace("(not win_b0)", "win_b0")),
        r"market-data"),
    "a second way to create": (
        _add(f"(booleanif run_bank_a (true (allow dom0_t {_A} (domain (create)))))"),
        r"manager -> bank-a-db"),
    "window inverted": (
        _swap(_WINDOW_OF_MARKET, _WINDOW_OF_MARKET.replace("(true ", "(false ")), r"market-data"),
    "window closed for good": (_swap(_WINDOW_OF_A + "\n", ""), r"bank-a-db.*never"),
    "create of domU_t in a window": (
        _add("(booleanif win_en (true (allow dom0_t domU_t (domain (create)))))"), r"domU_t"),
    "another permission in a window": (
        _add(f"(booleanif win_en (true (allow {_A} {_B} (grant (map_write)))))"),
        r"bank-a-db -> bank-b-db, grant"),
    "a needed rule made conditional": (
        _swap("(allow dom0_t label (grant (unmap)))",
              "(booleanif win_en (true (allow dom0_t label (grant (unmap)))))"),
        r"manager -> .*unmap.*(never|deny)"),
    "window open at boot": (
        _swap("(boolean win_en false)", "(boolean win_en true)"), r"booleans"),
    "an unknown boolean": (_add("(boolean backdoor false)"), r"booleans"),
    "label in a coalition too many": (
        _swap("(typeattributeset ste_bank_a (", f"(typeattributeset ste_bank_a ({_B} "),
        r"bank-b-db -> bank-a-db, "),
    "label missing from a coalition": (
        _swap("(typeattributeset ste_market (l_bank_a_desk_t ", "(typeattributeset ste_market ("),
        r"bank-a-desk -> market-data, event.*policy says permit, binary says deny"),
    "event channels between VMs get a free type": (
        _add("(type free_t)(roletype r free_t)(typetransition label label event free_t)"),
        r"new event type: policy says none"),
    "dom0's channels get a VM's type": (
        _swap("event dom0ch_t)", f"event {_A})"), r"types"),
    "a VM is another to itself": (
        _swap(f"(typetransition {_A} {_A} domain self_t)",
              f"(typetransition {_A} {_A} domain {_B})"), r"types"),
    "new VMs start with a label": (
        _swap("(sidcontext domU (u r domU_t", f"(sidcontext domU (u r {_A}"), r"initial SIDs"),
    "dom0 starts as the hypervisor": (
        _swap("(sidcontext dom0 (u r dom0_t", "(sidcontext dom0 (u r xen_t"), r"initial SIDs"),
    "a permissive type": (_add(f"(typepermissive {_A})"), r"other statements"),
    "unknown permissions allowed": (
        _swap("(handleunknown deny)", "(handleunknown allow)"), r"platform"),
    "a constraint": (
        _add("(mlsconstrain (grant (copy)) (eq l1 l2))"), r"constraints"),
    "a type transition of another kind": (
        _add(f"(typechange {_A} {_A} domain {_B})"), r"other statements"),
    "a second user": (
        _add("(user v)(userrole v r)(userlevel v (s0))(userrange v ((s0)(s0)))"), r"users"),
    "a resource of one VM only": (
        _add(f"(pirqcon 3 (u r {_A} ((s0)(s0))))"),
        r"3 -> 3, object context.*a type of its own.*l_bank_a_db_t"),
    "a type too many": (_add("(type free_t)(roletype r free_t)"), r"types"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_validation_catches(name: str, tmp_path: Path) -> None:
    change, report = MUTATIONS[name]
    text = change(TEXT)
    assert text != TEXT
    with pytest.raises(verify.Disagreement) as caught:
        validate(text, tmp_path)
    assert caught.value.id == "validate.mismatch"
    assert any(re.search(report, str(mismatch)) for mismatch in caught.value.mismatches), (
        caught.value.mismatches
    )


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    return compiled(TEXT, tmp_path_factory.mktemp("correct"))


def test_validation_catches_every_lost_permission(correct: Binary) -> None:
    """No permission is superfluous, and none can get lost unseen."""
    lost = 0
    for i, rule in enumerate(correct.allows):
        for permission in rule.permissions:
            rest = tuple(p for p in rule.permissions if p != permission)
            changed = (
                *correct.allows[:i], replace(rule, permissions=rest), *correct.allows[i + 1:]
            )
            with pytest.raises(verify.Disagreement):
                verify.verify(BANKS, XEN, replace(correct, allows=changed), DIGEST)
            lost += 1
    assert lost == sum(len(rule.permissions) for rule in correct.allows) > 130


def test_validation_catches_every_gained_permission(correct: Binary) -> None:
    """Whatever a rule of the binary gets in addition within its class is seen."""
    def pairs(rule: Access) -> set[tuple[str, str]]:
        sources, targets = (
            correct.attributes.get(side, (side,)) for side in (rule.source, rule.target)
        )
        return {*product(sources, targets)}

    granted = {
        (source, target, rule.cls, permission)
        for rule in correct.allows if rule.condition < 0
        for source, target in pairs(rule) for permission in rule.permissions
    }
    gained = 0
    for i, rule in enumerate(correct.allows):
        for permission in correct.classes[rule.cls] - {*rule.permissions}:
            new = {(*pair, rule.cls, permission) for pair in pairs(rule)}
            if new <= granted and rule.condition < 0:
                continue
            more = replace(rule, permissions=(*rule.permissions, permission))
            changed = (*correct.allows[:i], more, *correct.allows[i + 1:])
            with pytest.raises(verify.Disagreement):
                verify.verify(BANKS, XEN, replace(correct, allows=changed), DIGEST)
            gained += 1
    assert gained > 400


def test_validation_catches_every_lost_transition(correct: Binary) -> None:
    for key in correct.transitions:
        rest = {k: v for k, v in correct.transitions.items() if k != key}
        with pytest.raises(verify.Disagreement):
            verify.verify(BANKS, XEN, replace(correct, transitions=rest), DIGEST)


@pytest.mark.parametrize("name", EDGES)
def test_edge_policies_validate(name: str, tmp_path: Path) -> None:
    policy = EDGES[name]
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"
    done = validate(text, tmp_path, policy)
    assert done.pairs == (len(policy.labels) + 1) ** 2


def test_every_edge_differs_from_another_policy(tmp_path: Path) -> None:
    """The binary of one policy does not pass for another."""
    with pytest.raises(verify.Disagreement):
        validate(TEXT, tmp_path, EDGES["one guest"])


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=policies())
def test_random_policies_validate(policy: Policy, tmp_path: Path) -> None:
    """Without levels; test_level_validation draws from the whole language."""
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"
    validate(text, tmp_path, policy)


def test_report_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(verify.Disagreement) as caught:
        validate(TEXT + "(allow label label (mmu (map_read map_write)))\n", tmp_path)
    assert len(caught.value.mismatches) == 50
    assert str(caught.value).count("\n") == verify.SHOWN + 2
    assert "and 30 more" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 100, 1000, 3000, 5000, 7000])
def test_truncated_binary_is_a_clear_error(keep: int, tmp_path: Path) -> None:
    (tmp_path / "p.cil").write_text(TEXT)
    build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    data = (tmp_path / "p.bin").read_bytes()
    assert keep < len(data)
    (tmp_path / "p.bin").write_bytes(data[:keep])
    with pytest.raises(Internal) as caught:
        reader.read(tmp_path / "p.bin")
    assert caught.value.id == "validate.unreadable"


def test_missing_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "INTERPRETER", tmp_path / "python3")
    with pytest.raises(Unavailable, match="python3-setools") as caught:
        reader.read(tmp_path / "p.bin")
    assert caught.value.id == "validate.no-reader"


def test_interpreter_without_setools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python in a fresh directory, which sees no installed package."""
    bare = tmp_path / "python3"
    bare.write_text('#!/bin/sh\nexec /usr/bin/python3 -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(reader, "INTERPRETER", bare)
    with pytest.raises(Unavailable, match="python3-setools") as caught:
        reader.read(tmp_path / "p.bin")
    assert caught.value.id == "validate.no-reader"
