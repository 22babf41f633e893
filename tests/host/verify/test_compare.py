"""Bundle against hypervisor, with hypervisors that have loaded something else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.compile.flask import build as builder
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.host.verify import compare
from shype.host.verify.binary import read
from shype.host.verify.compare import Report
from shype.host.verify.table import Answer, Side
from shype.policy.manifest import Bundle, assemble, read_directory
from tests.decision.examples import read as read_policy

from .fake import Hypervisor

POLICY = read_policy("""\
shype: 1
policy: {name: small, version: "1.0"}
coalitions: [ward]
walls: {two: [east, west]}
levels: {order: [low, high]}
labels:
  boss: {coalitions: all}
  clerk: {coalitions: [ward], level: low, wall: [east]}
  chief: {coalitions: [ward], level: high, wall: [west]}
  other: {level: low}
host: {dom0: boss}
""")


@dataclass
class Built:
    bundle: Bundle
    binary: bytes
    cil: str
    folder: Path
    known: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def edited(self, old: str, new: str) -> bytes:
        """The binary of the same source with a change in the CIL."""
        if (old, new) not in self.known:
            assert old in self.cil, f"the compiler no longer writes {old}"
            (self.folder / "e.cil").write_text(self.cil.replace(old, new, 1))
            builder.compile_cil(self.folder / "e.cil", self.folder / "e.bin")
            self.known[old, new] = (self.folder / "e.bin").read_bytes()
        return self.known[old, new]

    def against(self, loaded: bytes, *, enforcing: bool = True) -> Report:
        xen = Hypervisor.with_policy(loaded)
        return self.asked(xen, enforcing)

    def asked(self, xen: Hypervisor, enforcing: bool = True) -> Report:
        return compare.loaded(
            SecurityServer(self.bundle.policy), self.bundle.manifest, read(self.binary), xen,
            xen.boolean, enforcing=enforcing)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("clinic")
    builder.build(POLICY, target="xen-4.17", out=folder / "b", validate=False)
    contents = read_directory(folder / "b")
    return Built(assemble(contents, folder), contents.files["policy.bin"],
                 contents.files["policy.cil"].decode(), folder)


def test_the_same_policy_agrees_in_everything(built: Built) -> None:
    report = built.against(built.binary)
    assert not report.different
    labels = len(built.bundle.manifest.labels)
    by = {(count.one, count.other): count for count in report.counts}
    assert len(report.rows) == labels ** 2 * 8
    assert by[Side.SOURCE, Side.BINARY].asked == by[Side.SOURCE, Side.LOADED].asked
    assert by[Side.BINARY, Side.LOADED].asked > 13 * (labels + 13) ** 2
    assert (by[Side.LOADED, Side.GUESTS].asked, by[Side.LOADED, Side.GUESTS].open) == (
        0, len(report.rows))
    assert {row.of(Side.LOADED) for row in report.rows} == {Answer.PERMIT, Answer.DENY}


#: What is loaded instead: a line of the CIL, its replacement, and a difference.
EDITS = {
    "an allow too many": (
        "(boolean win_en false)",
        "(boolean win_en false)(allow l_chief_t l_other_t (grant (map_read)))",
        ("chief", "other", "grant { map_read }", "deny", "permit")),
    "a level constraint lost": (
        "(mlsconstrain (event (bind))", ";",
        ("u:object_r:l_chief_t:s0", "chief", "event { bind }", "deny", "permit")),
    "a VM may administer the hypervisor": (
        "(boolean win_en false)",
        "(boolean win_en false)(allow l_clerk_t security_t (security (load_policy)))",
        ("clerk", "u:r:security_t:s0", "security { load_policy }", "deny", "permit")),
    "a transition lost": (
        "(typetransition l_clerk_t l_clerk_t domain self_t)", "",
        ("clerk", "clerk", "context of a new domain", "u:r:self_t:", "u:r:l_clerk_t:")),
    "create without a window": (
        "(boolean win_en false)",
        "(boolean win_en false)(allow dom0_t l_clerk_t (domain (create)))",
        ("boss", "clerk", "domain { create }", "deny", "permit")),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_policy_that_differs_is_found_out(built: Built, name: str) -> None:
    old, new, wanted = EDITS[name]
    report = built.against(built.edited(old, new))
    found = [(d.subject, d.target, d.what, d.said[Side.BINARY], d.said[Side.LOADED])
             for d in report.differences]
    assert report.different
    assert any(all(a.startswith(b) for a, b in zip(f, wanted, strict=True)) for f in found), found


def test_an_operation_that_becomes_possible_is_shown_with_its_rule(built: Built) -> None:
    old, new, _ = EDITS["an allow too many"]
    report = built.against(built.edited(old, new))
    wrong = {row.question: row for row in report.rows if row.different}
    assert {q[:2] for q in wrong} == {("chief", "other")}
    row, = (r for q, r in wrong.items() if q[2] is Operation.MAP_READ)
    assert (row.of(Side.SOURCE), row.of(Side.BINARY), row.of(Side.LOADED)) == (
        Answer.DENY, Answer.DENY, Answer.PERMIT)
    assert all(rule.rpartition(":")[0] for rule in row.rules)
    assert row.rules
    assert next(d.rules for d in report.differences if d.target == "other")


def test_another_policy_is_found_out_by_its_name_and_its_contexts(built: Built) -> None:
    other = built.cil.replace("clerk", "nurse").replace("policy_", "policy_0")
    (built.folder / "o.cil").write_text(other)
    builder.compile_cil(built.folder / "o.cil", built.folder / "o.bin")
    report = built.against((built.folder / "o.bin").read_bytes())
    whats = {(d.subject, d.what.split()[0]) for d in report.differences}
    assert ("clerk", "context") in whats
    assert ("policy", "boolean") in whats
    unknown = [row for row in report.rows if "clerk" in row.question[:2]]
    assert {row.of(Side.LOADED) for row in unknown} == {Answer.ERROR}
    assert all(row.different for row in unknown)


def test_a_permissive_hypervisor_differs(built: Built) -> None:
    report = built.asked(Hypervisor.with_policy(built.binary), enforcing=False)
    difference, = report.differences
    assert (difference.what, difference.said[Side.LOADED]) == ("FLASK mode", "permissive")


def test_conditional_rules_are_compared_as_they_stand(built: Built) -> None:
    """With an open window dom0 may create: that is no difference, as the binary says it too."""
    xen = Hypervisor.with_policy(built.binary)
    label = next(iter(built.bundle.manifest.labels))
    xen.values = built.bundle.manifest.window_values(label)
    report = built.asked(xen)
    assert not report.different
    assert report.booleans["win_en"] is True


def test_a_change_meanwhile_is_asked_again_and_then_given_up(built: Built) -> None:
    class Changing(Hypervisor):
        calls = 0

        def boolean(self, name: str) -> bool | None:
            if name == "win_en":
                self.calls += 1
                self.values = {"win_en": self.calls % 2 == 0 and self.calls < 4}
            return super().boolean(name)

    xen = Changing(read(built.binary))
    assert not built.asked(xen).different

    class Restless(Hypervisor):
        def allowed(self, source: int, target: int, cls: int) -> int:
            self.sequence += 1
            return 0

    with pytest.raises(Unavailable) as caught:
        built.asked(Restless(read(built.binary)))
    assert caught.value.id == "host.changing"


def test_the_json_is_read_back(built: Built) -> None:
    old, new, _ = EDITS["an allow too many"]
    report = built.against(built.edited(old, new))
    again = Report.from_json(report.to_json(every=True))
    assert again.to_json(every=True) == report.to_json(every=True)
    assert again.counts == report.counts
    shown = report.to_json(every=False)["rows"]
    assert isinstance(shown, list)
    assert len(shown) == sum(row.different for row in report.rows)


def test_that_a_manager_sees_who_runs_is_no_control(tmp_path: Path) -> None:
    made = read_policy(MANAGED)
    builder.build(made, target="xen-4.17", out=tmp_path / "b")
    contents = read_directory(tmp_path / "b")
    built = Built(assemble(contents, tmp_path), contents.files["policy.bin"],
                  contents.files["policy.cil"].decode(), tmp_path)
    assert not built.against(built.binary).different
    see = "(allow l_keeper_t label (domain (getdomaininfo)))"
    for more in (see.replace("getdomaininfo", "getdomaininfo unpause"),
                 see + see.replace("l_keeper_t", "l_other_t")):
        loose = Built(built.bundle, built.edited(see, more), built.cil, tmp_path)
        rows = [row for row in loose.against(loose.binary).rows if row.different]
        assert rows
        assert {row.question[2] for row in rows} == {Operation.CONTROL}


MANAGED = """\
shype: 1
policy: {name: small, version: "1.0"}
coalitions: [ward]
labels:
  boss: {coalitions: all}
  other: {coalitions: [ward]}
  keeper: {locked: true}
host: {dom0: boss, manager: keeper, updates: live}
"""
