"""What the hypervisor's denials mean: each kind, mapped to a rule with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.decision.operation import Operation
from shype.host.avc import parse
from shype.host.census import residents, running
from shype.host.denials import denials, explain, since
from shype.host.drivers.model import UNLABELLED
from shype.host.hypervisor import CreateFailed
from shype.host.launch import launch
from tests.host.builders import config, context, host, model

A, B, M = (f"l_{name}_t" for name in ("bank_a_db", "bank_b_db", "market_data"))


def line(source: str, target: str, tclass: str, permission: str, extra: str = "") -> str:
    return (
        f"(XEN) avc:  denied  {{ {permission} }} for {extra}scontext={context(source)} "
        f"tcontext={context(target)} tclass={tclass}"
    )


@pytest.mark.parametrize(("text", "id", "first_rule"), [
    (line("dom0_t", "domU_t", "domain", "create"), "create.unlabelled", 12),
    (line("dom0_t", B, "domain", "create"), "wall.conflict", 4),
    (line("dom0_t", M, "domain", "create"), "create.no-window", 11),
    (line("dom0_t", "elsewhere_t", "domain", "create"), "create.foreign-context", 12),
    (line("dom0_t", "dom0_t", "domain", "create"), "auth.reserved", 12),
    (line(A, B, "event", "create"), "ste.disjoint", 7),
    (line(A, B, "event", "create").replace(f"u:r:{B}", f"u:object_r:{B}"), "ste.disjoint", 7),
    (line(A, B, "grant", "map_read map_write"), "ste.disjoint", 7),
    (line(A, M, "argo", "send"), "ste.disjoint", 7),
    (line("dom0_t", A, "argo", "send"), "host.no-argo", 12),
    (line(A, "dom0_t", "domain", "pause"), "host.only", 12),
    (line(A, B, "mmu", "map_read"), "host.only", 12),
    (line(A, A, "event", "reset"), "avc.not-granted", 7),
    (line("dom0_t", A, "domain2", "relabelfrom"), "label.relabel", 12),
    (line(A, B, "domain", "transition"), "label.relabel", 12),
    (line("dom0_t", "security_t", "security", "setenforce"), "security.locked", 12),
    (line("dom0_t", "xen_t", "xen", "kexec"), None, None),
    (line("dom0_t", "dom0_t", "mmu", "stat"), None, None),
    (line(A, "xen_t", "newclass", "newperm"), None, None),
    ("(XEN) avc:  denied  { create } for curr", "avc.garbled", None),
])
def test_each_kind_of_denial(
    tmp_path: Path, text: str, id: str | None, first_rule: int | None
) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    denial = parse(text)
    assert denial is not None
    found = explain(agent, denial, running(residents(agent)))
    assert (found.decision.id if found.decision else None) == id
    if found.decision is not None:
        assert not found.decision.permitted
        lines = [span.line for span in found.decision.rules]
        assert lines[:1] == ([] if first_rule is None else [first_rule])
    if id == "wall.conflict":
        assert found.decision is not None
        assert [h.vm for h in found.decision.holders] == ["a-db"]


def test_what_root_tries_behind_our_back_is_listed_in_order(tmp_path: Path) -> None:
    agent = host(tmp_path)
    launch(agent, config(tmp_path, "a-db"))
    launch(agent, config(tmp_path, "market"))
    for seclabel in (None, UNLABELLED, context(B), context(M)):
        with pytest.raises(CreateFailed):
            model(agent).create("x", seclabel)
    model(agent).attempt(1, 2, Operation.MAP_WRITE)
    found = denials(agent)
    assert [(e.decision.id if e.decision else "", e.times) for e in found] == [
        ("create.unlabelled", 2), ("wall.conflict", 1), ("create.no-window", 1),
        ("ste.disjoint", 1),
    ]
    assert (found[-1].denial.source, found[-1].denial.target) == (1, 2)


@pytest.mark.parametrize(("before", "after", "new"), [
    ("", "", ""), ("", "ab", "ab"), ("ab", "ab", ""), ("ab", "abc", "c"), ("abc", "bcd", "d"),
    ("abc", "xyz", "xyz"), ("aa", "aaa", "a"), ("abab", "abx", "x"),
])
def test_lines_since(before: str, after: str, new: str) -> None:
    assert since(tuple(before), tuple(after)) == tuple(new)
