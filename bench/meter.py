"""What metering costs dom0: processor time of one sample of 1,000 VMs, each with a disk and an
interface, on counters as a hypervisor, sysfs and rtnetlink have them.

The hypercall is answered from a buffer (the hypervisor's own work is not in the figure, and is
below a microsecond per domain); sysfs is a directory in memory; rtnetlink's answer is parsed from
bytes in the kernel's format.  Everything after that is the product's own code: names, accounts,
signature, hash, and both files.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from shype.meter import xen
from shype.meter.account import Run
from shype.meter.ledger import Ledger
from shype.meter.sampler import Why, sample
from shype.meter.source import Reading
from shype.meter.verify import verify
from shype.meter.xen import XenSource
from tests.host.drivers.test_listing import Contexts, Hypervisor
from tests.meter.test_xen import disk

VMS = 1000
SAMPLES = 20
#: What they are meant to be apart, seconds.
INTERVAL = 10


class Labels:
    """In place of the policy."""

    def run(self, name: str, number: int, boot: str, reading: Reading) -> Run:
        """See `shype.meter.sampler.Opener`."""
        return Run(number, name, reading.uuid, reading.domid, boot, f"label-{number % 40}",
                   ("bank-a", "market"))


def message(name: str, index: int, stats: tuple[int, ...]) -> bytes:
    """One interface as RTM_NEWLINK has it (with 100 bytes of what is skipped)."""
    def attribute(kind: int, value: bytes) -> bytes:
        size = 4 + len(value)
        return struct.pack("=HH", size, kind) + value + bytes(-size % 4)

    return (struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(3, name.encode() + b"\0")
            + attribute(99, bytes(100)) + attribute(23, struct.pack("=24Q", *stats, *([0] * 20))))


def messages(round: int) -> list[bytes]:
    """What the kernel says of all interfaces."""
    return [message(f"vif{domid}.0", domid, tuple(round * 1000 + domid + n for n in range(4)))
            for domid in range(1, VMS + 1)]


def links(said: list[bytes]) -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
    """All interfaces, parsed from bytes as the product parses them."""
    for data in said:
        found = xen._parsed(data)
        assert found is not None
        yield found


def main() -> None:
    """Print the figures."""
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        place = Path(name)
        for domid in range(1, VMS + 1):
            disk(place / "backends", f"vbd-{domid}-51712", domid, domid, domid, domid)
        source = XenSource(
            call=Hypervisor([(domid, 0, 1) for domid in range(VMS + 1)]), contexts=Contexts(),
            backends=place / "backends")
        ledger = Ledger(place / "meter")
        ledger.begin({"host": "bench"})
        took = []
        for round in range(SAMPLES):
            said = messages(round)
            with mock.patch.object(xen, "links", lambda said=said: links(said)), \
                    mock.patch.object(XenSource, "name", lambda self, domid: f"vm{domid}"), \
                    mock.patch.object(XenSource, "_blind", return_value={}):
                began = time.process_time()
                sample(ledger, source, Labels(), Why.TIMER, INTERVAL)
                took.append(time.process_time() - began)
        best, usual = min(took[1:]), sorted(took[1:])[len(took) // 2]
        size = ledger.places.current.stat().st_size / SAMPLES
        began = time.process_time()
        found = verify(ledger.directory)
        assert found.good
        checked = (time.process_time() - began) / SAMPLES
        print(f"{VMS} VMs, one disk and one interface each; {SAMPLES} samples")
        print(f"  one sample: {usual * 1000:.0f} ms of processor time (best {best * 1000:.0f}), "
              f"every {INTERVAL} s {usual / INTERVAL:.2%} of one core")
        print(f"  one record: {size / 1024:.0f} KiB, {size / VMS:.0f} bytes for each VM")
        print(f"  verifying it: {checked * 1000:.0f} ms")


if __name__ == "__main__":
    main()
