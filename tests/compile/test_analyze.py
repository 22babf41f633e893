"""Flows of policies that are not shype's: a small one of the reference policy's shape."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli.main import main
from shype.compile.flask import tables
from shype.compile.flask.analyze import flows, policy_file
from shype.compile.flask.analyze.paths import Paths, find
from shype.compile.flask.analyze.steps import infix, steps
from shype.compile.flask.permissions import permission_map
from shype.compile.flask.reader import Binary
from shype.policy import signed
from tests.compile.small_reference import compiled

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small policy as a binary."""
    return compiled(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def binary(small: Path) -> Binary:
    return policy_file.read(small)


def ways(found: flows.Flows, source: str, sink: str) -> set[str]:
    """Mechanism and bandwidth of the direct flows between two types."""
    kinds = found.kinds(find(found, source), find(found, sink))
    return {f"{kind.mechanism} {kind.bandwidth}" for kind in kinds}


def test_the_argo_flow_that_nobody_meant(binary: Binary) -> None:
    """As in Xen's reference policy: `apart_t` shares with dom0 only, and may send to all."""
    found = flows.analyse(binary)
    assert ways(found, "apart_t", "guest_t") == {"argo bulk"}
    (step,) = steps(found, find(found, "apart_t"), find(found, "guest_t"))
    assert step.rules == ("allow domains domains:argo { register_single_source send };",)
    assert (step.cls, step.permissions) == ("argo", ("send",))
    assert not str(step.doubt)


@pytest.mark.parametrize(("source", "sink", "expected"), [
    ("guest_t", "guest_t", {"argo bulk", "event signal", "grant bulk"}),
    ("apart_t", "apart_t", {"argo bulk"}),
    ("guest_t", "apart_t", {"argo bulk"}),
    ("model_t", "guest_t", {"argo bulk", "memory bulk"}),
    ("guest_t", "model_t", {"argo bulk", "memory bulk"}),
    ("guest_t", "dom0_t", {"argo bulk", "event signal", "grant bulk", "control record"}),
    ("dom0_t", "guest_t", {"argo bulk", "event signal", "grant bulk", "control record",
                           "control signal"}),
    ("guest_t", "card_t", {"device bulk"}),
    ("card_t", "guest_t", {"device bulk"}),
    ("guest_t", "xen_t", {"console bulk"}),
    ("xen_t", "guest_t", {"hypervisor record"}),
    ("guest_t", "guest_ch", {"event signal"}),
    ("guest_ch", "locked_t", {"event signal"}),
    ("apart_t", "guest_ch", set()),
    ("builder_t", "sealed_t", {"argo bulk", "relabel bulk"}),
])
def test_direct_flows(binary: Binary, source: str, sink: str, expected: set[str]) -> None:
    assert ways(flows.analyse(binary), source, sink) == expected


def test_how_a_domain_sees_itself_is_no_flow_and_no_domain(binary: Binary) -> None:
    found = flows.analyse(binary)
    assert not ways(found, "guest_t", "guest_self")
    assert not ways(found, "guest_self", "guest_t")
    assert "memory bulk" not in ways(found, "guest_t", "guest_t")
    own = {found.names.types[i] for i in range(len(found.names.types))
           if found.parts.views >> i & 1}
    assert {"guest_self", "guest_seen"} <= own
    (step,) = (s for s in steps(found, find(found, "model_t"), find(found, "guest_t"))
               if s.cls == "mmu")
    assert step.how == "model_t meets its guest_t as guest_seen"


def test_channels_are_named_and_never_passed_through(binary: Binary) -> None:
    found = flows.analyse(binary, via=["event"])
    (step,) = steps(found, find(found, "guest_t"), find(found, "locked_t"))
    assert step.how == "channel of type guest_ch"
    assert step.rules == (
        "allow guest_t guest_ch:event { create send status };",
        "allow guest_ch locked_t:event { bind };",
    )
    # guest_ch is bound to dom0 too, but nothing that locked_t sends arrives there.
    assert Paths(found).shortest(find(found, "locked_t"), find(found, "guest_ch")) == (
        find(found, "locked_t"), find(found, "guest_t"), find(found, "guest_ch"))
    assert Paths(found).shortest(find(found, "guest_ch"), find(found, "apart_t")) is None


@pytest.mark.parametrize(("gone", "there"), [
    (("guest_t", "guest_ch", "send"), False),  # the sender may not notify
    (("guest_ch", "locked_t", "bind"), False),  # the sender's end cannot be bound
    (("locked_ch", "guest_t", "bind"), False),  # the receiver's end cannot be bound
    (("guest_t", "guest_ch", "create"), True),  # the receiver binds, dom0 opens
    (("locked_t", "locked_ch", "create"), False),  # nobody makes the receiver's end
    (("locked_t", "locked_ch", "send"), True),  # a channel for one direction
])
def test_what_an_event_channel_needs(
    binary: Binary, gone: tuple[str, str, str], there: bool
) -> None:
    source, target, permission = gone
    allows = tuple(
        replace(rule, permissions=tuple(p for p in rule.permissions if p != permission))
        if (rule.source, rule.target, rule.cls) == (source, target, "event") else rule
        for rule in binary.allows
    )
    if permission == "create" and source == "guest_t":
        maker = next(rule for rule in allows if (rule.source, rule.cls) == ("dom0_t", "event"))
        allows += (replace(maker, target="guest_ch", permissions=("create",)),)
    found = flows.analyse(replace(binary, allows=allows), via=["event"])
    assert bool(ways(found, "guest_t", "locked_t")) is there


def test_a_device_model_s_channel_to_what_it_sees(binary: Binary) -> None:
    """Both checks are about the type by which the model meets its guest; its end has that type."""
    rule = next(rule for rule in binary.allows if rule.cls == "event")
    more = tuple(
        replace(rule, source=source, target=target, permissions=permissions)
        for source, target, permissions in (
            ("model_t", "guest_seen", ("create", "send")), ("guest_seen", "guest_seen", ("bind",)),
            ("guest_ch", "model_t", ("bind",)),
        )
    )
    found = flows.analyse(replace(binary, allows=(*binary.allows, *more)), via=["event"])
    assert ways(found, "model_t", "guest_t") == ways(found, "guest_t", "model_t") == {
        "event signal"}
    apart = flows.analyse(replace(binary, allows=(*binary.allows, *more[:2])), via=["event"])
    assert not ways(apart, "model_t", "guest_t")


def test_booleans_count_both_ways_unless_given(binary: Binary) -> None:
    either, on, off = (
        flows.analyse(binary, fixed=fixed, via=["memory"], always=bool(fixed))
        for fixed in ({}, {"closed": True}, {"closed": False})
    )
    source, sink = find(either, "locked_t"), find(either, "dom0_t")
    (kind,) = either.kinds(source, sink)
    assert str(either.doubt(kind, source, sink)) == "depends on a boolean"
    (step,) = steps(either, source, sink)
    assert step.rules == ("if (!(closed)) { allow dom0_t locked_t:mmu { map_read map_write }; }",)
    assert not on.kinds(source, sink)
    assert not str(off.doubt(off.kinds(source, sink)[0], source, sink))
    with pytest.raises(BadInput, match=r"analyze\.boolean"):
        flows.analyse(binary, fixed={"open": True})


def test_what_was_made_under_another_value_of_a_boolean_is_still_there(binary: Binary) -> None:
    found = flows.analyse(binary, fixed={"closed": True})
    locked, dom0 = find(found, "locked_t"), find(found, "dom0_t")
    assert found.parts.domains >> locked & 1  # nobody can create it now
    assert ways(found, "locked_t", "dom0_t") >= {"memory bulk", "grant bulk", "event signal"}
    (step,) = (step for step in steps(found, locked, dom0) if step.cls == "mmu")
    assert step.how == "set up while the boolean had another value, and it stays"
    assert step.doubt.boolean
    always = flows.analyse(binary, fixed={"closed": True}, always=True)
    assert not always.parts.domains >> locked & 1


def test_constraints_on_users_are_said_and_on_types_are_decided(binary: Binary) -> None:
    found = flows.analyse(binary)
    source, sink = find(found, "guest_t"), find(found, "locked_t")
    doubts = {kind.mechanism: str(found.doubt(kind, source, sink))
              for kind in found.kinds(source, sink)}
    assert doubts == {"grant": "subject to a constraint", "event": "", "argo": ""}
    # `transfer` is for dom0 only, whatever users there are; the rule alone would permit it.
    assert not ways(flows.analyse(binary, via=["grant.transfer"]), "guest_t", "locked_t")
    free = replace(binary, constraints=())
    assert ways(flows.analyse(free, via=["grant.transfer"]), "guest_t", "locked_t")


def test_what_lasts_outlives_a_label(binary: Binary) -> None:
    """dom0 may map `builder_t`, not `sealed_t`; but a mapping stays when one becomes the other."""
    found = flows.analyse(binary, via=["memory"])
    source, sink = find(found, "sealed_t"), find(found, "dom0_t")
    (step,) = steps(found, source, sink)
    assert step.how == "set up while they were dom0_t and builder_t, and it stays"
    allows = tuple(r for r in binary.allows if "transition" not in r.permissions)
    assert not ways(flows.analyse(replace(binary, allows=allows), via=["memory"]),
                    "sealed_t", "dom0_t")


def test_paths_stop_at_the_hubs(binary: Binary) -> None:
    found = flows.analyse(binary, via=["grant"])
    apart, guest = find(found, "apart_t"), find(found, "guest_t")
    assert Paths(found).shortest(apart, guest) is None
    assert Paths(found, through=["dom0_t"]).shortest(apart, guest) == (
        apart, find(found, "dom0_t"), guest)
    assert not Paths(found).reach()[apart] >> guest & 1
    assert Paths(found, through=["dom0_t"]).reach()[apart] >> guest & 1
    dom0, locked = find(found, "dom0_t"), find(found, "locked_t")
    assert [*Paths(found).minimal(dom0, locked)] == [(dom0, locked)]
    everything = flows.analyse(binary)
    assert Paths(everything, trusted=["guest_t"]).stops >> guest & 1


def test_a_card_that_two_share_is_a_path(binary: Binary) -> None:
    rule = next(rule for rule in binary.allows if rule.target == "card_t")
    shared = replace(binary, allows=(*binary.allows, replace(rule, source="apart_t")))
    found = flows.analyse(shared, via=["device"])
    apart, card, guest = (find(found, name) for name in ("apart_t", "card_t", "guest_t"))
    assert Paths(found).shortest(apart, guest) == (apart, card, guest)


def test_traces_are_counted_on_demand(binary: Binary) -> None:
    assert ways(flows.analyse(binary, via=["grant.unmap"]), "guest_t", "locked_t") == set()
    found = flows.analyse(binary, via=["grant.unmap", "event.status"], covert=True)
    # A channel's state tells the one who asks of the other one.
    assert ways(found, "guest_t", "locked_t") == {"grant trace", "event trace"}
    assert ways(found, "guest_t", "apart_t") == set()


def test_copies_that_nobody_is_asked_about(binary: Binary) -> None:
    """A third domain issues the copy, or a transitive grant leads further: see `unguarded`."""
    found = flows.analyse(binary, via=["grant"], covert=True)
    assert ways(found, "apart_t", "guest_t") == {"unguarded bulk"}
    assert ways(found, "guest_t", "apart_t") == {"unguarded bulk"}  # guest_t may copy to guest_t
    assert "unguarded bulk" not in ways(found, "apart_t", "model_t")  # nobody may copy to that
    (step, *_) = steps(found, find(found, "apart_t"), find(found, "guest_t"))
    assert step.how == "with the help of the domains that may copy"
    assert all("copy" in rule for rule in step.rules)
    assert not ways(flows.analyse(binary, via=["grant"]), "apart_t", "guest_t")
    # Only dom0 could help to reach apart_t; without guests that copy, nobody does.
    alone = tuple(r for r in binary.allows if "copy" not in r.permissions or "dom0_t" in (
        r.source, r.target))
    rest = flows.analyse(replace(binary, allows=alone), via=["grant"], covert=True)
    assert not ways(rest, "model_t", "apart_t")
    itself = replace(alone[0], source="apart_t", target="apart_self", cls="grant",
                     permissions=("copy",), condition=-1, branch=True)
    again = flows.analyse(replace(binary, allows=(*alone, itself)), via=["grant"], covert=True)
    assert ways(again, "model_t", "apart_t") == {"unguarded bulk"}


def test_unknown_permissions_are_named_all_together(binary: Binary) -> None:
    strange = replace(binary, classes={
        **binary.classes, "db": frozenset({"get", "put"}),
        "event": binary.classes["event"] | {"shout"},
    })
    with pytest.raises(BadInput, match=r"permission-map\.unknown") as caught:
        flows.analyse(strange)
    assert "db.get, db.put, event.shout" in caught.value.message
    more = permission_map.parse("\n".join(
        f"[{cls}]\n{name} = {{ by = 'event', why = 'a test', source = 'xen/none' }}"
        for cls, name in (("db", "get"), ("event", "shout"))
    ) + "\n[other]\n", "mine")
    with pytest.raises(BadInput, match=r"db\.put") as again:
        flows.analyse(strange, more=more)
    assert "db.get" not in again.value.message


@pytest.mark.parametrize(("change", "error"), [
    ({"other": ("permissive guest_t;",)}, "analyze.permissive"),
    ({"other": ("type_transition guest_t guest_t:event dom0_ch; [ chatty ]:True",)},
     "analyze.transition"),
    ({"unknown": "allow", "classes": {"event": frozenset({"send"})}}, "analyze.unknown-allowed"),
])
def test_what_would_make_every_answer_wrong_is_refused(
    binary: Binary, change: dict[str, object], error: str
) -> None:
    with pytest.raises(BadInput) as caught:
        flows.analyse(replace(binary, **change), xen="4.17")  # type: ignore[arg-type]
    assert caught.value.id == error


def test_the_release_is_found_by_the_permissions(binary: Binary) -> None:
    for target in tables.shipped():
        classes = {cls: frozenset(p) for cls, p in tables.load(target).classes.items()}
        assert flows.fitting(replace(binary, classes=classes)).target == target


@pytest.mark.parametrize(("tokens", "shown"), [
    (("a",), "a"), (("a", "!"), "!a"), (("a", "b", "&&", "!"), "!(a && b)"),
    (("a", "b", "!", "||", "c", "&&"), "(a || !b) && c"), (("a", "b", "^"), "a ^ b"),
])
def test_conditions_as_people_write_them(tokens: tuple[str, ...], shown: str) -> None:
    assert infix(tokens) == shown


# -- reading ----------------------------------------------------------------------------------


def test_source_is_compiled(small: Path, binary: Binary, tmp_path: Path) -> None:
    assert policy_file.read(small.with_name("p.cil")).allows == binary.allows
    (tmp_path / "broken.cil").write_text("; a comment\n(allow a b)\n")
    with pytest.raises(BadInput, match=r"analyze\.source"):
        policy_file.read(tmp_path / "broken.cil")
    (tmp_path / "broken").write_bytes(small.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"analyze\.unreadable"):
        policy_file.read(tmp_path / "broken")


def test_a_bundle_is_read_packed_and_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, out = tmp_path / "b.shype", tmp_path / "out"
    example = Path(__file__).resolve().parents[2] / "examples/driver-domain.yaml"
    assert main(["build", str(example), "--target", "xen-4.17", "--unsigned", "--no-validate",
                 "-o", str(packed)]) == 0
    capsys.readouterr()
    _, contents = signed.opened(signed.read(packed), packed)
    out.mkdir()
    for name, data in contents.all_files().items():
        (out / name).write_bytes(data)
    assert policy_file.read(packed) == policy_file.read(out)
    packed.write_bytes(packed.read_bytes()[:-20])
    assert main(["analyze", str(packed)]) == 2
    assert "[bundle.corrupt]" in capsys.readouterr().err
    assert main(["analyze", str(tmp_path / "nothing")]) == 2


@pytest.mark.skipif(shutil.which("checkpolicy") is None, reason="checkpolicy is not installed")
def test_source_for_checkpolicy(tmp_path: Path) -> None:
    table = tables.load("xen-4.17")
    (tmp_path / "policy.conf").write_text("\n".join([
        *(f"class {cls}" for cls in table.classes), *(f"sid {sid}" for sid in table.initial_sids),
        *(f"class {cls} {{ {' '.join(names)} }}" for cls, names in table.classes.items()),
        "type dom0_t; type vm_t; role r; role r types { dom0_t vm_t };",
        "allow dom0_t vm_t:domain create; allow vm_t vm_t:argo send;",
        "user u roles { r };",
        *(f"sid {sid} u:r:dom0_t" for sid in table.initial_sids),
    ]) + "\n")
    found = flows.analyse(policy_file.read(tmp_path / "policy.conf"))
    assert ways(found, "vm_t", "vm_t") == {"argo bulk"}
    assert ways(found, "dom0_t", "vm_t") == {"control record"}
