"""The table in this machine's own kernel: what passes, and what is counted of the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shype.decision.security_server import SecurityServer
from shype.host.network.linux import counts
from shype.host.network.matrix import matrix
from shype.host.network.reasons import Reason
from shype.host.network.ruleset import ruleset
from shype.host.network.switch import Refused
from shype.host.network.vif import assigned_addresses
from shype.policy.names import LabelName
from tests.host import builders
from tests.host.network.builders import TEXT, vif
from tests.lab import frames as f

PROGRAM = Path(__file__).with_name("frames_program.py")
#: 1 and 2 are red, 2 with an address of its own; 3 is blue; the label of 4 is unknown.
LABELS = {1: "red-vm", 2: "red-vm", 3: "blue-vm", 4: None}
STRANGER = "vif9.0"
MACS = {n: f"00:16:3e:00:00:{n:02x}" for n in (*LABELS, 9)}
OWN = {1: "10.9.0.1", 2: "10.9.0.2"}


def can_try() -> bool:
    """Root with nft: the lab tests the same rules with real guests, everywhere."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("nft", "ip", "bridge", "unshare"))):
        return False
    return subprocess.run(
        ["unshare", "-n", "nft", "add", "table", "bridge", "x"], check=False,
        capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_try(), reason="no nft in a network namespace of its own")


@dataclass(frozen=True)
class Outcome:
    """Who heard which marks, and what was counted: (sender, receiver, reason) -> frames."""

    heard: dict[int, set[str]]
    counted: dict[tuple[int, int, Reason], int]


def sent(tmp_path: Path, frames: list[tuple[int, str]]) -> Outcome:
    """The frames, sent on a bridge of this kernel with the table for `LABELS`."""
    server = SecurityServer(builders.policy(tmp_path, TEXT))
    ports = {n: vif(n) for n in LABELS}
    ports[2] = replace(ports[2], addresses=assigned_addresses(OWN[2]) or ())
    made = matrix(server, [
        (ports[n], LabelName(label) if label else None) for n, label in LABELS.items()])
    asked = {"rules": ruleset(made), "ports": {f"vif{n}.0": mac for n, mac in MACS.items()},
             "frames": [(f"vif{n}.0", frame) for n, frame in frames]}
    done = subprocess.run(["unshare", "-n", sys.executable, PROGRAM], input=json.dumps(asked),
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)

    def number(name: str) -> int:
        return int(name.removeprefix("vif").removesuffix(".0"))

    refused: Refused = counts(value["listing"])
    return Outcome(
        {number(port): set(marks) for port, marks in value["heard"].items()},
        {(number(a), number(b), Reason(reason)): n for (a, b, reason), n in refused.frames.items()})


def test_honest_frames_pass_and_those_to_others_are_counted(tmp_path: Path) -> None:
    six = {n: str(f.link_local(MACS[n])) for n in OWN}
    frames = []
    for n in OWN:
        frames += [(n, f.ipv4(f.BROADCAST, MACS[n], f"{n}all", address=OWN[n])),
                   (n, f.arp(MACS[n], f"{n}arp", address=OWN[n])),
                   (n, f.neighbour(MACS[n], f"{n}na", kind=136, option=(2, MACS[n]),
                                   address=six[n])),
                   (n, f.neighbour(MACS[n], f"{n}ns", kind=135, option=(1, MACS[n]),
                                   address=six[n])),
                   (n, f.neighbour(MACS[n], f"{n}dad", kind=135, option=(14, MACS[n]),
                                   address="::")),
                   (n, f.neighbour(MACS[n], f"{n}rs", kind=133, option=(1, MACS[n]),
                                   address=six[n]))]
    frames.append((1, f.ipv4(MACS[2], MACS[1], "uni")))
    found = sent(tmp_path, frames)
    kinds = ("all", "arp", "na", "ns", "dad", "rs")
    assert found.heard[2] == {"uni", *(f"1{kind}" for kind in kinds)}
    assert found.heard[1] == {f"2{kind}" for kind in kinds}
    assert not found.heard[3] | found.heard[4] | found.heard[9]
    # Six of each towards 3, 4 and the stranger.
    assert found.counted == {(1, 1, Reason.FLOODED): 18, (2, 2, Reason.FLOODED): 18}


def test_each_dishonest_frame_is_refused_for_its_reason(tmp_path: Path) -> None:
    mac, victim, six = MACS[1], MACS[3], str(f.link_local(MACS[1]))
    tried = {
        Reason.PAIR: [f.ipv4(victim, mac, "!pair")] * 3,
        Reason.MAC: [f.ipv4(f.BROADCAST, victim, "!mac")],
        Reason.ARP: [f.arp(mac, "!arp", sender=victim)],
        Reason.NEIGHBOUR: [
            f.neighbour(mac, "!na", kind=136, option=(2, victim), address=six),
            f.neighbour(mac, "!ns", kind=135, option=(1, victim), address=six),
            f.neighbour(mac, "!rs", kind=133, option=(1, victim), address=six),
            f.neighbour(mac, "!na2", kind=136, option=(2, victim), address=six,
                        before=bytes([14, 1]) + bytes(6))],
        Reason.ROUTER: [f.neighbour(mac, "!ra", kind=134, option=(1, mac), address=six)],
        Reason.TAG: [f.ipv4(f.BROADCAST, mac, "!tag", tags=(10,)),
                     f.ipv4(f.BROADCAST, mac, "!tag2", tags=(10, 20))],
        Reason.GROUP: [f.lldp(mac, "!stp", f.STP), f.lldp(mac, "!eap", f.EAPOL)],
    }
    frames = [(1, frame) for each in tried.values() for frame in each]
    pinned = MACS[2]
    frames += [(2, f.ipv4(f.BROADCAST, pinned, "!ip", address="10.9.0.3")),
               (2, f.arp(pinned, "!arpip", address="10.9.0.3")),
               (2, f.neighbour(pinned, "!target", kind=136, option=(2, pinned),
                               address="fe80::1"))]
    frames += [(4, f.ipv4(f.BROADCAST, MACS[4], "!closed")),
               (9, f.ipv4(f.BROADCAST, MACS[9], "!strange"))]
    found = sent(tmp_path, frames)
    assert not any(found.heard.values())
    assert found.counted == {
        **{(1, 3 if reason is Reason.PAIR else 1, reason): len(each)
           for reason, each in tried.items()},
        (2, 2, Reason.ADDRESS): 3, (4, 4, Reason.CLOSED): 1, (9, 9, Reason.STRANGER): 1}
