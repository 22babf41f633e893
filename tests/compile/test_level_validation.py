"""Validation of levels, mechanisms, guards and tombstones: each way to go wrong must be caught."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from shype.base import child
from shype.base.errors import Internal
from shype.compile.flask import build, cil, encoding, reader, tables, verify
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.reader import Binary, Context, Token, context
from shype.policy.lattice import Lattice
from shype.policy.manifest import Validation
from shype.policy.model import Policy
from shype.policy.names import CategoryName, LabelName, SensitivityName
from tests.compile.policies import LEVELED, SPAN, at, policy
from tests.compile.test_constraints import naive
from tests.policy.strategies import full_policies
from tests.warm_setools import WarmSetools

XEN = tables.load("xen-4.17")
DIGEST = "0" * 64
TEXT = cil.generate(LEVELED, XEN) + f"(boolean policy_{DIGEST} false)\n"


def validate(text: str, folder: Path, policy: Policy = LEVELED) -> Validation:
    (folder / "p.cil").write_text(text)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    return verify.verify(policy, XEN, reader.read(folder / "p.bin"), DIGEST)


@pytest.mark.parametrize("target", tables.shipped())
def test_correct_binary_passes(target: str, tmp_path: Path) -> None:
    xen = tables.load(target)
    text = cil.generate(LEVELED, xen) + f"(boolean policy_{DIGEST} false)\n"
    (tmp_path / "p.cil").write_text(text)
    build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    done = verify.verify(LEVELED, xen, reader.read(tmp_path / "p.bin"), DIGEST)
    assert done.pairs == (len(LEVELED.labels) + 1) ** 2


def _line(pattern: str) -> str:
    (found,) = (line for line in TEXT.splitlines() if re.search(pattern, line))
    return found


def _constraint(permission: str) -> str:
    return _line(rf"^\(mlsconstrain \(\w+ \({permission}\)\)")


def _swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, f"the compiler no longer writes {old}"
        return text.replace(old, new)

    return change


def _without(line: str) -> Callable[[str], str]:
    return _swap(line + "\n", "")


def _in_line(line: str, old: str, new: str) -> Callable[[str], str]:
    assert old in line, line
    return _swap(line, line.replace(old, new))


def _add(line: str) -> Callable[[str], str]:
    return lambda text: text + line + "\n"


def _exempt(type_: str) -> Callable[[str], str]:
    line = _line(r"^\(typeattributeset mlsexempt ")
    return _in_line(line, f"{type_} " if f"{type_} " in line else f" {type_}", "")


#: What goes wrong, and a regular expression that the report must match.
MUTATIONS: dict[str, tuple[Callable[[str], str], str]] = {
    **{
        f"no constraint on {permission}": (_without(_constraint(permission)), report)
        for permission, report in {
            "map_read": r"low -> high, grant, grant . map_read .*deny, binary says permit",
            "map_write": r"high -> low, grant, grant . map_write",
            "copy": r"high -> low, grant, grant . copy",
            "bind": r"low -> high, event, ",
            "send": r"low -> high, argo, argo . send",
            "register_single_source": r"register_single_source",
        }.items()
    },
    "reading up instead of down": (
        _in_line(_constraint("map_read"), "(dom l1", "(domby l1"), r"low -> high, grant.*map_read"),
    "reading anything comparable": (
        _in_line(_constraint("map_read"), "(dom l1 l2)", "(or (dom l1 l2) (domby l1 l2))"),
        r"low -> high, grant.*map_read"),
    "reading equal levels only": (
        _in_line(_constraint("map_read"), "(dom l1", "(eq l1"),
        r"high -> low, grant.*map_read.*policy says permit, binary says deny"),
    "writable mapping of what is lower": (
        _in_line(_constraint("map_write"), "(eq l1", "(dom l1"), r"high -> low.*map_write"),
    "write-up for everybody": (
        _in_line(_constraint("copy"), "(eq l1", "(domby l1"), r"low -> high, grant.*copy"),
    "write-up in the wrong coalition": (
        _in_line(_constraint("copy"), "ste_feed", "ste_ops"), r"low -> high, grant.*copy"),
    "write-up turned into write-down": (
        _in_line(_constraint("copy"), "domby", "dom"), r"high-crew -> source, grant.*copy"),
    "write-up if the source alone is in the coalition": (
        _in_line(_constraint("copy"), "(eq t2 ste_feed)", "(eq t1 ste_feed)"),
        r"deaf -> high, grant.*copy"),
    "no write-up": (
        _in_line(_constraint("copy"), "(domby l1 l2)", "(eq l1 l2)"),
        r"source -> high-crew, grant.*copy.*policy says permit"),
    "Argo's ring in the wrong direction": (
        _in_line(_constraint("register_single_source"), "(dom l1", "(domby l1"),
        r"source -> high-crew.*register_single_source"),
    "constraint forgets the target": (
        _in_line(_constraint("copy"), "(eq t2 mlsexempt)", "(eq t1 mlsexempt)"),
        r" -> netd, grant.*copy"),
    "constraint exempts every target": (
        _in_line(_constraint("map_write"), "(eq t2 mlsexempt)", "(eq t2 label)"),
        r"low -> high, grant.*map_write"),
    "channels of dom0 constrained": (_exempt("dom0ch_t"), r"manager -> .*event"),
    "dom0 constrained": (_exempt("dom0_t"), r"manager"),
    "driver domain constrained": (_exempt("l_netd_t"), r"netd"),
    "guard constrained": (_exempt("l_release_t"), r"release"),
    "channels of trusted labels constrained": (_exempt("speakch_t"), r"event"),
    "mute channels of trusted labels constrained": (_exempt("mutech_t"), r"event"),
    "an ordinary label exempt": (
        _in_line(_line(r"^\(typeattributeset mlsexempt "), " l_netd_t", " l_netd_t l_low_t"),
        r"low -> high"),
    "a trusted label in its coalition": (
        _in_line(_line(r"^\(typeattributeset ste_ops "), "(l_low_t ", "(l_release_t l_low_t "),
        r"release"),
    "label in a switched-off mechanism": (
        _in_line(_line(r"^\(typeattributeset event_ops "), "(l_low_t ", "(l_deaf_t l_low_t "),
        r"deaf"),
    "coalition opens what it closes": (
        _add("(allow ste_press ste_press (argo (register_single_source send)))"),
        r"desk -> desk, argo"),
    "guard reads from its sink": (
        _add("(allow l_release_t l_desk_t (grant (map_read)))"), r"release -> desk.*map_read"),
    "guard's source reads from it": (
        _add("(allow l_low_t l_release_t (grant (map_read)))"), r"low -> release.*map_read"),
    "guard copies back": (
        _add("(allow l_desk_t l_release_t (grant (copy)))"), r"desk -> release.*copy"),
    "guard notifies its source": (
        _add("(allow l_release_t mutech_t (event (send)))"), r"release -> mutech_t, event"),
    "guard notifies by the wrong kind of channel": (
        _swap("event mutech_t)", "event speakch_t)"), r"types|event"),
    "guard's channel has its peer's type": (
        _without(_line(r"^\(typetransition l_release_t \w+ event speakch_t")), r"event type"),
    "two guards joined": (
        _add("(allow l_release_t l_plain_guard_t (grant (copy)))"), r"release -> plain-guard"),
    "driver reads above its range": (
        _add("(allow l_release_t l_wall_desk_t (argo (send)))"), r"release -> wall-desk"),
    "retired label shares": (
        _add("(allow l_gone_t l_low_t (grant (map_read)))"), r"gone -> low"),
    "retired label can start": (
        _add("(booleanif win_en (true (allow dom0_t l_gone_t (domain (create)))))"), r"gone"),
    "retired label managed": (
        _in_line(_line(r"^\(typeattributeset managed "), "(l_low_t ", "(l_gone_t l_low_t "),
        r"manager -> gone"),
    "renamed label lost": (
        _without(_line(r"^\(typealias ")), r"renamed types"),
    "renamed label becomes another": (
        _in_line(_line(r"^\(typealias "), "l_high_crew_t)", "l_low_t)"), r"renamed types"),
    "levels in another order": (
        _swap("(sensitivityorder (s0 s1 s2))", "(sensitivityorder (s0 s2 s1))"),
        r"sensitivities|users"),
    "categories in another order": (
        _swap("(categoryorder (c0 c1 c2 c3 c4))", "(categoryorder (c1 c0 c2 c3 c4))"),
        r"categories"),
    "a level without a category": (
        _swap("(sensitivitycategory s1 (c0 c1 c2 c3 c4))", "(sensitivitycategory s1 (c0 c1 c2))"),
        r"levels"),
    "a user without the highest level": (
        _in_line(_line(r"^\(userrange "), "(s2 (c0 c1 c2 c3 c4))", "(s2 (c0 c1 c2 c3))"),
        r"validate.unreadable"),
    "dom0 without the highest level": (
        _in_line(_line(r"^\(sidcontext dom0 "), "(s2 (c0", "(s1 (c0"), r"initial SIDs"),
    "new domains at the highest level": (
        _in_line(_line(r"^\(sidcontext domU "), "((s0) (s0))", "((s0) (s2))"), r"initial SIDs"),
    "creation only at one level": (
        _add("(mlsconstrain (domain (create)) (eq l1 l2))"), r"domain . create"),
    "unmap only at one level": (
        _add("(mlsconstrain (grant (unmap)) (eq l1 l2))"), r"unmap"),
    "opening only at one level": (
        _add("(mlsconstrain (event (create)) (or (eq t1 dom0_t) (neq t2 l_low_t)))"), r"create"),
    "channels by the levels of their objects": (
        _add("(mlsconstrain (event (send)) (eq h1 h2))"), r"event"),
    "a constraint on roles": (
        _add("(constrain (event (bind)) (eq r1 r2))"), r"event"),
    "a range transition": (
        _add("(rangetransition l_low_t l_high_t event ((s1) (s1)))"), r"other statements"),
    "a validatetrans": (_add("(mlsvalidatetrans grant (eq l1 l2))"), r"other statements"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_validation_catches(name: str, tmp_path: Path) -> None:
    change, report = MUTATIONS[name]
    text = change(TEXT)
    assert text != TEXT
    with pytest.raises(Internal) as caught:
        validate(text, tmp_path)
    if not isinstance(caught.value, verify.Disagreement):
        assert report == caught.value.id  # SETools finds it even before
        return
    assert any(re.search(report, str(mismatch)) for mismatch in caught.value.mismatches), (
        [str(mismatch) for mismatch in caught.value.mismatches]
    )


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    folder = tmp_path_factory.mktemp("correct")
    (folder / "p.cil").write_text(TEXT)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    return reader.read(folder / "p.bin")


def test_the_tests_read_as_the_product_does(
    correct: Binary, warm_setools: WarmSetools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own and in one that had SETools imported before."""
    (tmp_path / "p.cil").write_text(TEXT)
    build.compile_cil(tmp_path / "p.cil", tmp_path / "p.bin")
    before = warm_setools.count
    assert reader.read(tmp_path / "p.bin") == correct
    assert warm_setools.count == before + 1
    monkeypatch.setattr(reader, "child", child)
    assert reader.read(tmp_path / "p.bin") == correct
    assert warm_setools.count == before + 1


def test_validation_catches_every_lost_permission(correct: Binary) -> None:
    """No permission is superfluous; those of two coalitions that overlap count together."""
    unseen = []
    for i, rule in enumerate(correct.allows):
        for permission in rule.permissions:
            rest = tuple(p for p in rule.permissions if p != permission)
            changed = (
                *correct.allows[:i], replace(rule, permissions=rest), *correct.allows[i + 1:]
            )
            try:
                verify.verify(LEVELED, XEN, replace(correct, allows=changed), DIGEST)
            except verify.Disagreement:
                continue
            unseen.append((rule, permission))
    assert not unseen


def test_validation_catches_every_lost_transition(correct: Binary) -> None:
    for key in correct.transitions:
        rest = {k: v for k, v in correct.transitions.items() if k != key}
        with pytest.raises(verify.Disagreement):
            verify.verify(LEVELED, XEN, replace(correct, transitions=rest), DIGEST)


def test_validation_catches_every_changed_token(correct: Binary) -> None:
    """Any word of any constraint turned into another is seen, if anybody's access depends on it."""
    others = {
        "==": ("!=",), "dom": ("==", "domby"), "domby": ("==", "dom"),
        "and": ("or",), "or": ("and",), "l1": ("l2",), "l2": ("l1",), "t1": ("t2",),
        "t2": ("t1",),
    }
    members = {name: {name} for name in correct.types}
    members |= {name: {*types} for name, types in correct.attributes.items()}
    contexts = contexts_of(correct)
    seen = same = 0
    for i, constraint in enumerate(correct.constraints):
        (permission,) = constraint.permissions
        pairs = {
            (source, target)
            for rule in correct.allows
            if rule.cls == constraint.cls and permission in rule.permissions
            for source, target in product(members[rule.source], members[rule.target])
        }

        def outcome(
            tokens: tuple[Token, ...], pairs: set[tuple[str, str]] = pairs
        ) -> list[bool] | None:
            try:
                return [naive(tokens, contexts[a], contexts[b], members) for a, b in sorted(pairs)]
            except (KeyError, TypeError):
                return None  # for example a level compared with itself

        for j, token in enumerate(constraint.expression):
            for other in others.get(token, ()) if isinstance(token, str) else ():
                tokens = (*constraint.expression[:j], other, *constraint.expression[j + 1:])
                changed = (
                    *correct.constraints[:i], replace(constraint, expression=tokens),
                    *correct.constraints[i + 1:],
                )
                try:
                    verify.verify(LEVELED, XEN, replace(correct, constraints=changed), DIGEST)
                except verify.Disagreement:
                    seen += 1
                    continue
                assert outcome(tokens) == outcome(constraint.expression), (constraint, j, other)
                same += 1
    assert seen > 80
    assert same < seen / 5


def contexts_of(binary: Binary) -> dict[str, Context]:
    """The context that each type of LEVELED is met with."""
    lowest = MlsRange(MlsLevel(0), MlsLevel(0))
    found = {type_: Context("u", "object_r", type_, lowest) for type_ in binary.types}
    found |= {sid.type: sid for sid in binary.sids}
    for entry in encoding.label_entries(LEVELED).values():
        found[entry.type] = context(entry.context)
    return found


@pytest.mark.parametrize("label", [n for n in LEVELED.labels if n != "manager"])
def test_validation_catches_a_wrong_level(
    label: LabelName, correct: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VM that would run with another level than its label's (the binary is the right one)."""
    real = encoding.label_entries(LEVELED)
    entry = real[label]
    wrong = {**real, label: replace(entry, context=f"u:r:{entry.type}:s2:c1")}
    monkeypatch.setattr("shype.compile.flask.frame.label_entries", lambda policy: wrong)
    with pytest.raises(verify.Disagreement, match=f"{label} -> its own context"):
        verify.verify(LEVELED, XEN, correct, DIGEST)


def test_validation_catches_swapped_levels_by_what_they_permit(
    correct: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the statement of contexts were wrong in the same way."""
    real = encoding.label_entries(LEVELED)
    low, high = (real[LabelName(name)] for name in ("low", "high"))
    swapped = {
        **real,
        LabelName("low"): replace(low, context=f"u:r:{low.type}:s1"),
        LabelName("high"): replace(high, context=f"u:r:{high.type}:s0"),
    }
    assert (low.context, high.context) == (f"u:r:{low.type}:s0", f"u:r:{high.type}:s1")
    monkeypatch.setattr("shype.compile.flask.world.label_entries", lambda policy: swapped)
    with pytest.raises(verify.Disagreement, match="map_read"):
        verify.verify(LEVELED, XEN, correct, DIGEST)


def test_many_of_everything(tmp_path: Path) -> None:
    """Numbers of two digits keep their order; the hypervisor's stack of five places suffices."""
    names = [f"x{i}" for i in range(70)]
    lattice = Lattice(
        tuple(map(SensitivityName, names[:20])), tuple(map(CategoryName, names)), SPAN
    )
    base = policy({
        "manager": (names, []),
        **{f"{end}{i}": ([names[i]], []) for i in range(70) for end in "lh"},
    })
    wide = replace(
        base, levels=lattice,
        coalitions={n: replace(c, write_up=True) for n, c in base.coalitions.items()},
        labels={
            name: label if name == "manager" else replace(
                label, level=at(int(name[1:]) % 10 + 10 * (name[0] == "h"), names[int(name[1:])])
            )
            for name, label in base.labels.items()
        },
    )
    text = cil.generate(wide, XEN) + f"(boolean policy_{DIGEST} false)\n"
    validate(text, tmp_path, wide)
    for constraint in reader.read(tmp_path / "p.bin").constraints:
        depth = highest = 0
        for token in constraint.expression:
            # Two operands and a comparison are one entry of the hypervisor's.
            if token in ("and", "or"):
                depth -= 1
            elif token in ("==", "dom", "domby"):
                depth += 1
            highest = max(highest, depth)
        assert highest <= 5, constraint


@settings(
    max_examples=20, deadline=None, suppress_health_check=[*HealthCheck]
)
@given(policy=full_policies())
def test_random_policies_validate(policy: Policy, tmp_path: Path) -> None:
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"
    validate(text, tmp_path, policy)
