"""The matrix is the security server's answer, and nothing passes where there is a doubt."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from shype.decision.frames import Frames
from shype.decision.ids import DecisionId
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.host.network.matrix import PortClass, matrix
from shype.host.network.vif import Uplink, assigned_addresses, assigned_mac, link_local
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName
from tests.host import builders
from tests.host.network.builders import TEXT, vif

GUESTS = ("red-vm", "blue-vm", "both-vm", "red-top", "quiet-vm")


@pytest.fixture
def server(tmp_path: Path) -> SecurityServer:
    return SecurityServer(builders.policy(tmp_path, TEXT))


def test_pairs_are_the_security_server_s_three_answers(server: SecurityServer) -> None:
    found = matrix(server, [(vif(n, b), LabelName(label)) for n, (label, b) in enumerate(
        product(GUESTS, ("br0", "br-red")), 1)])
    assert set(found.classes.values()) == {
        PortClass(b, LabelName(label)) for label, b in product(GUESTS, ("br0", "br-red"))}
    for (a, x), (b, y) in product(found.classes.items(), repeat=2):
        use, network = server.use, ResourceKind.NETWORK
        meant = (
            x.bridge == y.bridge and use(x.label, network, x.bridge, Access.WRITE).permitted
            and use(y.label, network, x.bridge, Access.READ).permitted
            and server.decide(x.label, y.label, Operation.NETWORK_SEND).permitted)
        assert ((a, b) in found.pairs) is meant, (x, y)
    named = {(found.classes[a].label, found.classes[b].label) for a, b in found.pairs
             if found.classes[a].bridge == "br0"}
    assert named == {
        ("red-vm", "red-vm"), ("red-vm", "both-vm"), ("both-vm", "red-vm"), ("both-vm", "both-vm"),
        ("blue-vm", "blue-vm"), ("blue-vm", "both-vm"), ("both-vm", "blue-vm"),
        ("red-vm", "red-top"), ("both-vm", "red-top"),  # upwards, and nothing comes back
    }


def test_dom0_is_a_party_of_its_own(server: SecurityServer) -> None:
    found = matrix(server, [(vif(n), LabelName(label)) for n, label in enumerate(GUESTS, 1)])
    names = {n: c.label for n, c in found.classes.items()}
    assert {names[n] for n in found.to_dom0} == {"red-vm", "blue-vm", "both-vm"}
    assert {names[n] for n in found.from_dom0} == {"red-vm", "blue-vm", "both-vm", "red-top"}


def test_a_denial_names_its_rule(server: SecurityServer) -> None:
    frames = Frames(server, "br0")
    red, blue, top = map(LabelName, ("red-vm", "blue-vm", "red-top"))
    assert frames.decide(red, blue).id is DecisionId.STE_DISJOINT
    assert frames.decide(top, red).id is DecisionId.MLS_WRITE_DOWN
    assert frames.decide(red, top).permitted
    assert Frames(server, "br-red").decide(blue, red).id is DecisionId.RESOURCE_DISJOINT
    assert Frames(server, "else").decide(red, red).id is DecisionId.RESOURCE_UNLABELED
    assert [frames.joins(label).permitted for label in (red, blue, top)] == [True] * 3
    assert not frames.sends(top).permitted
    refused = Frames(server, "br-red").joins(blue)
    assert (refused.permitted, refused.id) == (False, DecisionId.RESOURCE_DISJOINT)
    assert all(frames.permits(a, b) is frames.decide(a, b).permitted
               for a, b in product(map(LabelName, GUESTS), repeat=2))


def test_what_is_in_doubt_is_closed(server: SecurityServer) -> None:
    red = LabelName("red-vm")
    found = matrix(server, [
        (vif(1), red), (vif(2, None), red), (vif(3), None), (vif(4, mac="00:16:3e:00:00:01"), red),
        (vif(5, "bad name"), red), (vif(6, "br-red", mac="00:16:3e:00:00:01"), red),
    ])
    closed = {p.vif.domid: p.why for p in found.ports if p.number is None}
    assert sorted(closed) == [2, 3, 4, 5]
    assert "bridge" in closed[2]
    assert "label" in closed[3]
    assert "vif1.0" in closed[4]  # the older one keeps its MAC; on another bridge it is free


def test_uplinks_carry_the_label_of_the_network_behind_them(server: SecurityServer) -> None:
    links = [
        Uplink("eth1.10", "br0", 10), Uplink("eth1.20", "br0", 20), Uplink("eth0", "br0"),
        Uplink("eth1.10", "br-red", 20), Uplink("bad name", "br0"),
    ]
    guests = ("red-vm", "blue-vm", "both-vm", "red-top")
    found = matrix(
        server, [(vif(n), LabelName(label)) for n, label in enumerate(guests, 1)], links)
    # What no entry names stays out, and what is called after another VLAN stays closed.
    assert [(up.name, up.bridge, n is not None) for up, n in found.uplinks] == [
        ("eth1.10", "br0", True), ("eth1.20", "br0", True), ("eth1.10", "br-red", False)]
    named = {(found.classes[a].shown, found.classes[b].shown) for a, b in found.pairs}
    red, blue = "outside (eth1.10)", "outside (eth1.20)"
    assert {a for a, b in named if b == red} == {"red-vm", "both-vm"}
    assert {b for a, b in named if a == red} == {"red-vm", "both-vm", "red-top"}
    assert {a for a, b in named if b == blue} == {"blue-vm", "both-vm"}
    assert {b for a, b in named if a == blue} == {"blue-vm", "both-vm"}
    assert not {n for n in found.to_dom0 | found.from_dom0 if found.classes[n].uplink}


@pytest.mark.parametrize(("name", "vlan", "misnamed"), [
    ("eth1.10", 10, False), ("eth1.10", 20, True), ("eth1.10", None, True), ("eth1", None, False),
    ("vlan10", 10, False), ("eth1.x", None, False),
])
def test_a_name_that_tells_a_vlan_tells_the_truth(
    name: str, vlan: int | None, misnamed: bool
) -> None:
    assert Uplink(name, "br0", vlan).misnamed is misnamed


@pytest.mark.parametrize(("text", "mac"), [
    ("00:16:3E:00:00:01", "00:16:3e:00:00:01"), (None, None), ("", None), ("00:16:3e:00:01", None),
    ("01:00:5e:00:00:01", None), ("ff:ff:ff:ff:ff:ff", None), ("00:00:00:00:00:00", None),
    ("00:16:3e:00:00:01; drop", None),
])
def test_macs(text: str | None, mac: str | None) -> None:
    assert assigned_mac(text) == mac


def test_addresses() -> None:
    assert assigned_addresses(None) == ()
    found = assigned_addresses("10.0.0.1/24 10.0.0.1, fe80::1")
    assert found is not None
    assert [str(a) for a in found] == ["10.0.0.1", "fe80::1"]
    assert assigned_addresses("10.0.0.1 drop") is None
    assert str(link_local("00:16:3e:00:00:02")) == "fe80::216:3eff:fe00:2"
