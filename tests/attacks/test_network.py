"""Guests and administrators against the matrix on dom0's bridge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.lab import builder, probe
from shype.lab.guests import config
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.lab import frames as f
from tests.lab.network_guests import BRIDGE, MACS, Traffic, up
from tests.lab.trails import shown, shype

UPLINK = Path(__file__).parents[1] / "lab" / "uplink_program.py"


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    scratch = tmp_path_factory.mktemp("network-attacks")
    with up(scratch) as lab:
        yield Arena(lab)


def tried(arena: Arena, frames: dict[str, list[str]]) -> Ended:
    """Frames marked ``!`` must reach nobody; honest ones, sent last, show that the way is open."""
    traffic = Traffic(arena.lab, frames={name: list(each_) for name, each_ in frames.items()})
    traffic.send("r1", f.ipv4(MACS["r2"], MACS["r1"], "honest1"))
    traffic.send("b1", f.ipv4(MACS["x1"], MACS["b1"], "honest2"))
    heard = traffic.heard()
    got = sorted(f"{name}:{mark}" for name, marks in heard.items() for mark in marks)
    through = [word for word in got if "!" in word]
    if through or "honest1" not in heard["r2"] or "honest2" not in heard["x1"]:
        return Ended(Ends.OPEN, f"arrived: {', '.join(got)}")
    return Ended(Ends.STOPPED, "no such frame arrived, honest ones did")


def spoofed_mac(arena: Arena) -> Ended:
    return tried(arena, {"b1": [f.ipv4(to, MACS[name], f"!{name}") for name in ("r1", "r2", "x1")
                                for to in (f.BROADCAST, MACS["r1"], MACS["x1"])]})


def spoofed_arp(arena: Arena) -> Ended:
    return tried(arena, {"b1": [
        f.arp(MACS["b1"], "!reply", sender=MACS["r1"], reply=True),
        f.arp(MACS["b1"], "!asks", sender=MACS["r1"]),
        f.arp(MACS["b1"], "!to", sender=MACS["r1"], to=MACS["x1"], reply=True),
    ], "r2": [f.arp(MACS["r2"], "!ip", address="10.9.0.1", reply=True)]})


def false_neighbour(arena: Arena) -> Ended:
    mac, victim = MACS["b1"], MACS["r1"]
    nonce = bytes([14, 1]) + bytes(6)
    return tried(arena, {"b1": [
        f.neighbour(mac, "!advert", kind=136, option=(2, victim)),
        f.neighbour(mac, "!second", kind=136, option=(2, victim), before=nonce),
        f.neighbour(mac, "!solicit", kind=135, option=(1, victim)),
        f.neighbour(mac, "!router", kind=134, option=(1, mac)),
    ]})


def multicast(arena: Arena) -> Ended:
    """To the other coalition: whoever is in both may hear it, so that is not marked."""
    traffic = Traffic(arena.lab)
    for n, to in enumerate((f.BROADCAST, "01:00:5e:00:00:01", f.ALL_NODES, "33:33:ff:00:00:01",
                            MACS["r1"], MACS["r2"])):
        traffic.send("b1", f.ipv4(to, MACS["b1"], f"b{n}"))
    traffic.send("b1", f.arp(MACS["b1"], "barp"))
    traffic.send("b1", f.neighbour(MACS["b1"], "bns", kind=135, option=(1, MACS["b1"])))
    heard = traffic.heard()
    if heard["r1"] or heard["r2"]:
        return Ended(Ends.OPEN, f"{sorted(heard['r1'] | heard['r2'])} arrived")
    open_ = {"b0", "b1", "barp", "bns"} <= heard["x1"]
    return Ended(Ends.STOPPED if open_ else Ends.OPEN,
                 f"nothing at r1 and r2; x1, in both coalitions, heard {len(heard['x1'])}")


def vlan_hopping(arena: Arena) -> Ended:
    return tried(arena, {"b1": [
        f.ipv4(to, MACS["b1"], f"!{len(tags)}{n}", tags=tags)
        for n, to in enumerate((f.BROADCAST, MACS["r1"], MACS["x1"]))
        for tags in ((1,), (10,), (0, 10), (10, 20, 30))
    ]})


def poisoned_bridge(arena: Arena) -> Ended:
    """b1 speaks as r1 in every way, some of which no hook of nftables sees; then r2 calls r1."""
    traffic = Traffic(arena.lab)
    for group in (f.BROADCAST, f.STP, f.LLDP, f.EAPOL, "01:80:c2:00:00:02"):
        traffic.send("b1", f.lldp(MACS["r1"], "!poison", group))
    traffic.heard()
    place = arena.lab.sh(f"bridge fdb show | grep '^{MACS['r1']} .*master'").out
    domid = arena.lab.run(["xl", "domid", "r1"]).out.strip()
    strays = {line.split()[2] for line in place.splitlines()} - {f"vif{domid}.0"}
    ended = tried(arena, {"r2": [f.ipv4(MACS["r1"], MACS["r2"], "call", address="10.9.0.2")]})
    if strays:
        return Ended(Ends.OPEN, f"the bridge now sees r1 at {strays}")
    return Ended(ended.how, f"r1 stays at vif{domid}.0; {ended.evidence}")


def flood(arena: Arena) -> Ended:
    """What is refused of it is counted to the frame, is few records, and no line of dom0's log."""
    lab = arena.lab
    shype(lab, "network", "load")  # counters that begin at 0
    records, log = len(shown(lab, "--kind", "network.refuse")), lab.sh("dmesg | grep vif").out
    frame = f.ipv4(f.BROADCAST, MACS["b1"], "flood")
    sent = probe.ask(arena.lab.run, "b1", "frame_send", frame, 1500, timeout=300)
    spoofed = probe.ask(arena.lab.run, "b1", "frame_send", f.ipv4(
        f.BROADCAST, MACS["r1"], "!flood"), 1500, timeout=300)
    Traffic(arena.lab).heard()  # what has room for so many
    ended = tried(arena, {})
    counted = sum(each["frames"] for each in shype(lab, "network", "show")[1]["refused"]
                  if (each["from"]["vm"], each["reason"]) == ("b1", "mac"))
    shype(lab, "audit", "collect")
    made = len(shown(lab, "--kind", "network.refuse")) - records
    said = (f"{sent.get('sent')} and {spoofed.get('sent')} sent, {counted} counted in {made} "
            f"record(s); {ended.evidence}")
    exact = counted == spoofed.get("sent") and 1 <= made <= 3 and lab.sh(
        "dmesg | grep vif").out == log
    return Ended(ended.how if exact else Ends.OPEN, said)


def unasked_interface(arena: Arena) -> Ended:
    """An interface of a VM's kind joins the bridge behind shype's back."""
    lab = arena.lab
    lab.put("/run/uplink_program.py", UPLINK.read_bytes())
    joined = lab.sh("ip link add vif99.0 type veth peer name stray && ip link set stray up && "
                    f"ip link set vif99.0 master {BRIDGE} up")
    words = [f.ipv4(to, "00:16:3e:00:00:99", "!stray") for to in (f.BROADCAST, MACS["r1"])]
    done = lab.run(["python3", "/run/uplink_program.py", "send", "stray", *words])
    ended = tried(arena, {})
    lab.sh("ip link del vif99.0")
    if joined.code or done.code:
        return Ended(Ends.OPEN, f"nothing was tried: {joined.err}{done.err}")
    return ended


def flushed(arena: Arena) -> Ended:
    lab = arena.lab
    lab.sh("nft flush ruleset")
    check = lab.run(["shype", "network", "check"], 300)
    status = lab.run(["shype", "status"], 300)
    repaired = lab.run(["shype", "network", "load"], 300).code == 0
    after = lab.run(["shype", "network", "check"], 300).code
    found = (check.code, status.code, after) == (1, 1, 0) and repaired
    return Ended(Ends.DETECTED if found else Ends.OPEN, check.out.strip())


def user_flushes(arena: Arena) -> Ended:
    code, said = arena.as_user(
        "nft flush ruleset; nft delete table bridge shype; "
        "echo 1 > /sys/class/net/xenbr0/bridge/multicast_snooping; "
        "ip link set xenbr0 down; rm -f /var/lib/shype/network.nft")
    check = arena.lab.run(["shype", "network", "check"], 300)
    return Ended(Ends.STOPPED if code != 0 and check.code == 0 else Ends.OPEN, said.splitlines()[0])


def not_started(arena: Arena, mac: str, because: str) -> Ended:
    """A further VM with this MAC does not start, and nothing of it is left."""
    lab = arena.lab
    lab.put("/etc/xen/vms/late.cfg", config(
        "late", type="pv", seclabel="red-vm",
        extra=f'vif = ["bridge={BRIDGE},mac={mac}"]\ncap = 1'))
    done = lab.run(["shype", "run", "--json", "/etc/xen/vms/late.cfg"], 900)
    left = "late " in lab.run(["xl", "list"]).out
    lab.sh("umount /usr/sbin/nft 2>/dev/null; xl destroy late 2>/dev/null")
    stopped = done.code == 3 and because in done.out and not left
    if stopped:
        return Ended(Ends.STOPPED, because)
    return Ended(Ends.OPEN, done.out + done.err)


def taken_mac(arena: Arena) -> Ended:
    return not_started(arena, MACS["r1"], "network.port")


def no_filter(arena: Arena) -> Ended:
    arena.lab.sh("mount --bind /bin/false /usr/sbin/nft")
    return not_started(arena, "00:16:3e:00:00:77", "network.filter")


GUEST, ADMIN = By.GUEST, By.ADMIN
ATTACKS = [
    Attack("network.spoofed-mac", GUEST, "a VM sends as another, in and out of its coalition",
           Ends.STOPPED, Whom.BRIDGE, spoofed_mac),
    Attack("network.spoofed-arp", GUEST, "a VM claims another's address by ARP",
           Ends.STOPPED, Whom.BRIDGE, spoofed_arp),
    Attack("network.false-neighbour", GUEST,
           "a VM claims another's address, or to be a router, by IPv6 neighbour discovery",
           Ends.STOPPED, Whom.BRIDGE, false_neighbour),
    Attack("network.multicast", GUEST, "a VM calls the other coalition by broadcast and multicast",
           Ends.STOPPED, Whom.BRIDGE, multicast),
    Attack("network.vlan-hopping", GUEST, "a VM sends tagged and doubly tagged frames",
           Ends.STOPPED, Whom.BRIDGE, vlan_hopping),
    Attack("network.fdb-poisoning", GUEST, "a VM makes the bridge see another's MAC at its port",
           Ends.STOPPED, Whom.BRIDGE, poisoned_bridge),
    Attack("network.flood", GUEST, "a VM floods the bridge with 3,000 frames",
           Ends.STOPPED, Whom.BRIDGE, flood),
    Attack("network.unasked-interface", ADMIN, "an interface joins the bridge without shype",
           Ends.STOPPED, Whom.BRIDGE, unasked_interface),
    Attack("network.taken-mac", ADMIN, "a configuration gives a VM the MAC of one that runs",
           Ends.STOPPED, Whom.AGENT, taken_mac),
    Attack("network.no-filter", By.FAULT, "nft fails while a VM with an interface starts",
           Ends.STOPPED, Whom.AGENT, no_filter),
    Attack("network.flushed", ADMIN, "root flushes nftables",
           Ends.DETECTED, Whom.AGENT, flushed),
    Attack("network.user-flushes", By.USER, "a user of dom0 flushes nftables and the bridge",
           Ends.STOPPED, Whom.KERNEL, user_flushes),
]
WHY = ("what passes is decided by nftables in dom0, by the labels' coalitions and levels alone: "
       "the table is the same")
TestDefault, TestLocked, TestManager = each(
    ATTACKS, without={Mode.LOCKED: WHY, Mode.MANAGER: WHY})
