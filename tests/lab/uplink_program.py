"""Runs in dom0: the far end of an uplink. ``listen IFACE STOP`` writes what comes in, tagged or
not, until the file STOP exists; ``send IFACE HEX...`` sends frames as they stand."""

from __future__ import annotations

import json
import socket
import struct
import sys
from pathlib import Path

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_AUXDATA = 263, 1, 1, 8
#: struct tpacket_auxdata (linux/if_packet.h); TP_STATUS_VLAN_VALID.
AUXDATA, VLAN_VALID = struct.Struct("=IIIHHHH"), 0x10
MARK = b"frame:"


def opened(interface: str) -> socket.socket:
    """A raw socket on the interface."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    found.bind((interface, ETH_P_ALL))
    return found


def listen(interface: str, stop: Path) -> None:
    """Print a JSON list of [VLAN or null, mark]."""
    ear = opened(interface)
    request = struct.pack("=iHH8s", socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0, b"")
    ear.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
    ear.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    ear.settimeout(0.2)
    stop.with_suffix(".ready").touch()
    heard = []
    while True:
        try:
            frame, extra, _, where = ear.recvmsg(2048, 256)
        except TimeoutError:
            if stop.exists():
                break
            continue
        at = frame.find(MARK)
        if at < 0 or where[2] == socket.PACKET_OUTGOING:
            continue
        vlan = None
        for level, kind, data in extra:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, *_, tci, _ = AUXDATA.unpack_from(data)
                vlan = tci & 0xFFF if status & VLAN_VALID else None
        heard.append([vlan, frame[at + len(MARK):at + len(MARK) + 8].decode().rstrip(".")])
    sys.stdout.write(json.dumps(heard) + "\n")


def main() -> None:
    what, interface, *rest = sys.argv[1:]
    if what == "listen":
        listen(interface, Path(rest[0]))
        return
    mouth = opened(interface)
    for frame in rest:
        mouth.send(bytes.fromhex(frame).ljust(60, b"\0"))


if __name__ == "__main__":
    main()
