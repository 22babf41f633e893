"""Guests on one bridge: what the kernel lets pass is what the security server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.decision.frames import Frames
from shype.decision.security_server import SecurityServer
from shype.lab import builder
from shype.lab.host import Lab
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.lab import frames as f
from tests.lab.network_guests import ADDRESS, BRIDGE, LABELS, MACS, POLICY, Traffic, up
from tests.lab.trails import shown, shype

pytestmark = pytest.mark.lab

GUESTS = tuple(LABELS)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    path = tmp_path_factory.mktemp("network") / "nets.yaml"
    path.write_text(POLICY)
    return load(path).policy


@pytest.fixture(scope="module")
def network_lab(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    with up(tmp_path_factory.mktemp("network-lab")) as lab:
        yield lab


def address(guest: str) -> str:
    """The IPv4 address that a guest may use."""
    return ADDRESS.get(guest, "10.9.0.1")


def honest(traffic: Traffic, sender: str) -> dict[str, frozenset[str]]:
    """Frames in the sender's own name: mark -> the guests that are addressed."""
    mac, own = MACS[sender], address(sender)
    others = frozenset(GUESTS) - {sender}
    sent = {f"{sender}{kind}": others for kind in ("bcast", "mcast", "arp", "ns", "na", "dad")}
    for other in others:
        traffic.send(sender, f.ipv4(MACS[other], mac, f"{sender}{other}uni", address=own))
        sent[f"{sender}{other}uni"] = frozenset({other})
    traffic.send(sender, f.ipv4(f.BROADCAST, mac, f"{sender}bcast", address=own))
    traffic.send(sender, f.ipv4("01:00:5e:01:02:03", mac, f"{sender}mcast", address=own))
    traffic.send(sender, f.arp(mac, f"{sender}arp", address=own))
    six = str(f.link_local(mac))
    traffic.send(sender, f.neighbour(mac, f"{sender}ns", kind=135, option=(1, mac), address=six))
    traffic.send(sender, f.neighbour(mac, f"{sender}na", kind=136, option=(2, mac), address=six))
    traffic.send(sender, f.neighbour(mac, f"{sender}dad", kind=135, option=(14, mac), address="::"))
    return sent


def dishonest(traffic: Traffic, sender: str, other: str) -> None:
    """Frames that must reach nobody, in another's name or past the bridge; marks have a `!`."""
    mac, own, theirs = MACS[sender], address(sender), MACS[other]
    six = str(f.link_local(mac))

    def name(what: str) -> str:
        return f"{sender}!{what}"

    traffic.send(sender, f.ipv4(f.BROADCAST, theirs, name("mac"), address=own))
    traffic.send(sender, f.arp(mac, name("arp"), sender=theirs, address=own, reply=True))
    for kind, option, what in ((136, 2, "na"), (135, 1, "ns"), (133, 1, "rs")):
        traffic.send(sender, f.neighbour(mac, name(what), kind=kind, option=(option, theirs),
                                         address=six))
    hidden = bytes([14, 1]) + bytes(6)
    traffic.send(sender, f.neighbour(mac, name("na2"), kind=136, option=(2, theirs), before=hidden,
                                     address=six))
    traffic.send(sender, f.neighbour(mac, name("ra"), kind=134, option=(1, mac), address=six))
    for tags, what in (((10,), "tag"), ((10, 20), "tag2"), ((0,), "tag0")):
        traffic.send(sender, f.ipv4(f.BROADCAST, mac, name(what), address=own, tags=tags))
    for group, what in ((f.STP, "stp"), (f.LLDP, "lldp"), (f.EAPOL, "eap")):
        traffic.send(sender, f.lldp(mac, name(what), group))
        traffic.send(sender, f.lldp(theirs, name(f"{what[:3]}2"), group))


def test_what_passes_is_the_security_server_s_answer(network_lab: Lab, policy: Policy) -> None:
    traffic = Traffic(network_lab)
    sent: dict[str, frozenset[str]] = {}
    for sender, other in zip(GUESTS, (*GUESTS[1:], GUESTS[0]), strict=True):
        sent |= honest(traffic, sender)
        dishonest(traffic, sender, other)
    heard = traffic.heard()
    frames = Frames(SecurityServer(policy), BRIDGE)
    for listener in GUESTS:
        permitted = {
            mark for mark, to in sent.items() if listener in to
            and frames.permits(LabelName(LABELS[mark[:2]]), LabelName(LABELS[listener]))
        }
        assert heard[listener] == permitted, listener
    # The matrix has all its kinds: both ways, no way, and upwards only.
    assert {"r2r1uni", "r2arp", "r2ns"} <= heard["r1"]
    assert {"r1t1uni", "r1arp"} <= heard["t1"]
    assert not any(mark.startswith(("r", "t")) for mark in heard["b1"])
    assert "x1b1uni" in heard["b1"]
    assert "x1r1uni" in heard["r1"]


def test_an_assigned_address_is_the_only_one(network_lab: Lab) -> None:
    traffic = Traffic(network_lab)
    mac = MACS["r2"]
    traffic.send("r2", f.ipv4(f.BROADCAST, mac, "!ip", address="10.9.0.77"))
    traffic.send("r2", f.arp(mac, "!arpip", address="10.9.0.77"))
    traffic.send("r2", f.neighbour(mac, "!six", kind=136, option=(2, mac), address="fe80::1"))
    traffic.send("r2", f.ipv4(f.BROADCAST, mac, "ip", address=address("r2")))
    traffic.send("r1", f.ipv4(f.BROADCAST, MACS["r1"], "free", address="10.9.0.77"))
    heard = traffic.heard()
    assert {name: set(marks) for name, marks in heard.items()} == {
        "r1": {"ip"}, "r2": {"free"}, "x1": {"ip", "free"}, "t1": {"ip", "free"}, "b1": set()}


def test_the_bridge_learns_nothing_from_guests(network_lab: Lab) -> None:
    places = {
        line.split()[0]: line.split()[2]
        for line in network_lab.run(["bridge", "fdb", "show"]).out.splitlines()
        if "master" in line and line.startswith("00:16:3e")
    }
    domids = {name: network_lab.run(["xl", "domid", name]).out.strip() for name in GUESTS}
    assert places == {MACS[name]: f"vif{domids[name]}.0" for name in GUESTS}


UPLINK = """\
ip link add up0 type veth peer name out0 && ip link set up0 up && ip link set out0 up &&
for id in 10 20; do
  ip link add link up0 name up0.$id type vlan id $id || exit 1
  ip link set up0.$id master xenbr0 up || exit 1
done
"""


def test_each_coalition_has_its_vlan_outside(network_lab: Lab) -> None:
    lab, program, stop = network_lab, "/run/uplink_program.py", "/run/uplink.stop"
    lab.put(program, Path(__file__).with_name("uplink_program.py").read_bytes())
    assert lab.sh(UPLINK).code == 0
    assert lab.run(["shype", "network", "load"], 300).code == 0
    lab.spawn(["python3", program, "listen", "out0", stop], "/run/uplink.log")
    assert lab.sh("for i in $(seq 300); do [ -e /run/uplink.ready ] && exit 0; sleep 0.1; done; "
                  "exit 1").code == 0
    traffic = Traffic(lab)
    for guest in GUESTS:
        traffic.send(guest, f.ipv4(f.BROADCAST, MACS[guest], f"{guest}out", address=address(guest)))
    traffic.heard()
    sent = [f.ipv4(f.BROADCAST, "00:50:56:00:00:01", mark, tags=tags) for mark, tags in (
        ("in10", (10,)), ("in20", (20,)), ("in0", ()), ("in30", (30,)), ("in1020", (10, 20)))]
    # As r1, from outside: an answer to r1 must not go there afterwards.
    sent.append(f.ipv4(f.BROADCAST, MACS["r1"], "asr1", tags=(20,)))
    assert lab.run(["python3", program, "send", "out0", *sent]).code == 0
    traffic.send("r2", f.ipv4(MACS["r1"], MACS["r2"], "still", address=address("r2")))
    heard = traffic.heard()
    assert {guest: set(marks) for guest, marks in heard.items()} == {
        "r1": {"in10", "still"}, "r2": {"in10"}, "t1": {"in10"}, "b1": {"in20", "asr1"},
        "x1": {"in10", "in20", "asr1"}}
    lab.sh(f"touch {stop}; for i in $(seq 100); do [ -s /run/uplink.log ] && exit; sleep 0.1; done")
    outside = json.loads(lab.get("/run/uplink.log"))
    # t1 is above the network: it writes to none. x1 is in both coalitions.
    assert sorted(outside) == [
        [10, "r1out"], [10, "r2out"], [10, "x1out"], [20, "b1out"], [20, "x1out"]]
    # An interface that is called after another VLAN is not let in.
    lab.sh("ip link del up0.20; ip link add link up0 name up0.20 type vlan id 10; "
           "ip link set up0.20 master xenbr0 up")
    assert lab.run(["shype", "network", "check"], 300).code == 1
    lab.sh("ip link del up0")
    assert lab.run(["shype", "network", "load"], 300).code == 0


def test_show_check_and_status(network_lab: Lab, policy: Policy) -> None:
    lab = network_lab
    shown = json.loads(lab.run(["shype", "network", "show", "--json"], 300).out)
    frames = Frames(SecurityServer(policy), BRIDGE)
    labels = {LabelName(LABELS[name]) for name in GUESTS}
    assert {(pair["from"], pair["to"]) for pair in shown["pairs"]} == {
        (a, b) for a in labels for b in labels if frames.permits(a, b)}
    vif = f"vif{lab.run(['xl', 'domid', 'r1']).out.strip()}.0"
    changes = (
        "nft flush chain bridge shype between",
        "nft add element bridge shype matrix '{ 1 . 0:4 : accept }'",
        f"echo 1 > /sys/class/net/{vif}/brport/learning",
    )
    assert lab.sh(" && ".join(changes)).code == 0
    found = lab.run(["shype", "network", "check"], 300)
    assert found.code == 1
    assert [line.split(" of ")[0] for line in found.out.splitlines()][:2] == [
        "map matrix", "chain between"]
    assert vif in found.out.splitlines()[2]
    assert lab.run(["shype", "network", "load"], 300).code == 0
    assert lab.run(["shype", "network", "check"], 300).out.startswith("the kernel filters")
    status = lab.run(["shype", "status", "--json"], 300)
    wrong = {point["name"] for point in json.loads(status.out)["points"]
             if point["demanded"] and not point["holds"]}
    assert (status.code, wrong) == (1, {"hotplug veto"})
    assert lab.run(["shype", "hotplug", "install"], 300).code == 0
    assert lab.run(["shype", "status"], 300).code == 0


def test_what_is_refused_is_counted_and_recorded_with_its_label_and_rule(network_lab: Lab) -> None:
    lab, traffic = network_lab, Traffic(network_lab)
    assert shype(lab, "audit", "collect")[0] == 0
    before = len(shown(lab, "--kind", "network.refuse"))
    # A table of its own for this test: all of its counters are 0.
    assert lab.run(["shype", "network", "load"], 300).code == 0
    for number in range(3):
        traffic.send("b1", f.ipv4(MACS["r1"], MACS["b1"], f"!pair{number}"))
    traffic.send("b1", f.ipv4(f.BROADCAST, MACS["r2"], "!mac"))
    traffic.send("b1", f.ipv4(f.BROADCAST, MACS["b1"], "!tag", tags=(10,)))
    traffic.send("b1", f.ipv4(f.BROADCAST, MACS["b1"], "all"))
    heard = traffic.heard()
    assert heard["x1"] == {"all"}
    counted = {(each["from"]["vm"], (each["to"] or {}).get("vm"), each["reason"]): each["frames"]
               for each in shype(lab, "network", "show")[1]["refused"]}
    # The broadcast is not for r1, r2 and t1.
    expected = {("b1", "r1", "pair"): 3, ("b1", None, "mac"): 1, ("b1", None, "tag"): 1,
                ("b1", None, "flooded"): 3}
    assert {key: counted[key] for key in expected} == expected
    assert shype(lab, "network", "check")[0] == 0  # counting is no change of the table
    # A new table must not lose what the old one has counted.
    assert lab.run(["shype", "network", "load"], 300).code == 0
    made = shown(lab, "--kind", "network.refuse")[before:]
    assert {(r["vm"], r["subject"], r["object"], r.get("object_label"), r["rule"],
             r["details"]["frames"]) for r in made} == {
        ("b1", "blue-vm", "vm:r1", "red-vm", "ste.disjoint", 3),
        ("b1", "blue-vm", "network:xenbr0", None, "frame.not-own", 1),
        ("b1", "blue-vm", "network:xenbr0", None, "frame.kind", 1)}
    assert not any(name in lab.run(["dmesg"]).out for name in ("!pair", "IN=vif"))
