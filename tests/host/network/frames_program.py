"""Runs in a network namespace of its own: a bridge of this kernel, ports of veth, real frames.

Standard input is JSON: ``rules`` (for nft), ``ports`` (name -> MAC), ``frames`` (port,
hexadecimal).  Prints ``heard`` (port -> marks) and ``listing`` (of the table, by nft).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = b"frame:"
ETH_P_ALL = 3


def run(*words: str, text: str = "") -> str:
    """A program of the host; what it printed."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def made(ports: Mapping[str, str]) -> dict[str, socket.socket]:
    """The bridge, and for each port the guest's end of it."""
    settings = {  # what stands behind a packet would be cut off; this kernel's own frames
        "bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0",
        "ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
    for name, value in settings.items():
        setting = Path("/proc/sys/net") / name
        if setting.exists():
            setting.write_text(value)
    run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
    run("ip", "link", "set", "br0", "up")
    ends = {}
    for number, (port, mac) in enumerate(ports.items()):
        run("ip", "link", "add", port, "type", "veth", "peer", "name", f"end{number}")
        run("ip", "link", "set", port, "master", "br0", "up")
        run("bridge", "fdb", "replace", mac, "dev", port, "master", "static", "sticky")
        run("ip", "link", "set", f"end{number}", "up")
        end = ends[port] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        end.bind((f"end{number}", ETH_P_ALL))
        end.setblocking(False)
    return ends


def heard(end: socket.socket) -> list[str]:
    """The marks of what has come; frames that it sent itself do not count."""
    marks: list[str] = []
    while True:
        try:
            frame, where = end.recvfrom(2048)
        except BlockingIOError:
            return marks
        at = frame.find(MARK)
        if at >= 0 and where[2] != socket.PACKET_OUTGOING:
            marks.append(frame[at + len(MARK):at + len(MARK) + 8].decode().rstrip("."))


def main() -> None:
    """Do what standard input says."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    ends = made(wanted["ports"])
    run("nft", "-f", "-", text=wanted["rules"])
    for port, frame in wanted["frames"]:
        ends[port].send(bytes.fromhex(frame).ljust(60, b"\0"))
    run("ip", "link", "set", "br0", "down")  # the bridge's work is done when this returns
    listed = json.loads(run("nft", "-j", "list", "table", "bridge", "shype"))
    sys.stdout.write(json.dumps({
        "heard": {port: heard(end) for port, end in ends.items()},
        "listing": listed["nftables"]}))


if __name__ == "__main__":
    main()
