"""Runs in a guest whose label is no object manager: what it is told when it asks all the same."""

from __future__ import annotations

import os
import struct

from object_manager import (  # type: ignore[import-not-found]
    Access,
    Monitor,
    Peer,
    Unanswered,
)

RED = "u:r:l_red_app_t:s0"
#: The event channel of its own that is connected to dom0 from the start: XenStore's.
PORT = 1


def main() -> None:
    monitor, told = Monitor(), []
    sid = monitor._peer_sid(PORT)
    try:
        monitor.peer(PORT)
        told.append("peer: told")
    except Unanswered as error:
        told.append(f"peer: {error.id}")
    answer = monitor.decide(Peer(PORT, sid, RED), RED, Access.READ)
    told.append(f"decide: {answer.id}")
    try:
        told.append(f"vector: {monitor._vector(sid, sid)}")
    except OSError as error:
        told.append(f"vector: {error.errno}")
    payload = b"data/asked\0" + "; ".join(told).encode()
    device = os.open("/dev/xen/xenbus", os.O_RDWR)
    os.write(device, struct.pack("<IIII", 11, 1, 0, len(payload)) + payload)
    os.read(device, 16)


if __name__ == "__main__":
    main()
