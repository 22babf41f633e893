"""Runs in dom0 (in /opt/shype): makes Xen deny so many times that dom0 clears its console ring.

``N`` at once, or ``N paced``: some at a time, each time until what collects denials has read them.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import struct
import sys
import time
from pathlib import Path

from shype.host.drivers.xen import console
from shype.host.drivers.xen.flask import MAP_LOCKED, MAP_POPULATE, PAGE, hypercall

COLLECTED = Path("/var/lib/shype/audit/collected.json")
SYSCTL, READCONSOLE, VERSION, CLEAR = 35, 1, 0x15, 1
#: Far less than the ring holds.
SOME = 40


def deny(times: int) -> None:
    """XEN_SYSCTL_readconsole that would clear: shype's policies give it to nobody."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
    memory = mmap.mmap(-1, 2 * PAGE, flags=flags)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for _ in range(times):
        struct.pack_into("=2I2BHIQI", memory, 0, READCONSOLE, VERSION, CLEAR, 0, 0, 0,
                         address + PAGE, 1)
        try:
            hypercall(SYSCTL, address)
        except PermissionError:
            continue
        sys.exit("the console was cleared")


def collected(end: int) -> bool:
    """Whether all before this position of the console was read."""
    position: int = json.loads(COLLECTED.read_text())["position"]
    return (position - end) % 2**32 < 2**31


def main() -> None:
    times, paced = int(sys.argv[1]), sys.argv[2:] == ["paced"]
    while times > 0:
        now = min(SOME, times) if paced else times
        deny(now)
        times -= now
        end = console.read(None).end
        while paced and not collected(end):
            time.sleep(0.05)


if __name__ == "__main__":
    main()
