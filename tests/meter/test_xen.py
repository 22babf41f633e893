"""What is read of a Xen host: sysfs as xen-blkback has it, and real interfaces of this kernel."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest

from shype.meter import xen
from shype.meter.source import Counters, Kind
from shype.meter.xen import XenSource, links
from tests.host.drivers.test_listing import Contexts, Hypervisor

STATISTICS = ("rd_req", "wr_req", "rd_sect", "wr_sect")


def disk(backends: Path, name: str, *numbers: int) -> None:
    """A block backend as /sys has it."""
    place = backends / name / "statistics"
    place.mkdir(parents=True)
    for file, number in zip(STATISTICS, numbers, strict=True):
        (place / file).write_text(f"{number}\n")


def test_domains_disks_and_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(tmp_path, "vbd-3-51712", 10, 20, 30, 40)
    disk(tmp_path, "vbd-12-51728", 1, 2, 3, 4)
    (tmp_path / "vif-3-0").mkdir()
    monkeypatch.setattr(xen, "links", lambda: iter([
        ("eth0", 2, (1, 1, 1, 1)), ("vif3.0", 9, (11, 12, 1300, 1400)),
        ("vif3.0-emu", 10, (1, 1, 1, 1))]))
    source = XenSource(call=Hypervisor([(0, 0, 1), (3, 0, 2), (12, 4, 2)]), contexts=Contexts(),
                       backends=tmp_path)
    dom0, third, twelfth = source.look().domains
    assert (dom0.domid, dom0.devices) == (0, {})
    assert (third.cpu_ns, third.memory, third.context) == (3 * 10**9, 1003 * 4096, "context 2")
    instance = (tmp_path / "vbd-3-51712/statistics").stat().st_ino
    assert third.devices == {
        f"vbd-51712#{instance}": Counters(Kind.DISK, 30 * 512, 40 * 512, 10, 20),
        # what dom0 sent the guest has received
        "vif-0#9": Counters(Kind.NETWORK, 1400, 1300, 12, 11),
    }
    assert (twelfth.stopped, third.stopped) == (True, False)
    assert list(twelfth.devices.values()) == [Counters(Kind.DISK, 3 * 512, 4 * 512, 1, 2)]


def test_links_are_what_the_kernel_says_elsewhere() -> None:
    found = {name: (index, stats) for name, index, stats in links()}
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        place = Path("/sys/class/net", name.strip())
        index, (packets_in, _, bytes_in, _) = found[name.strip()]
        assert index == int((place / "ifindex").read_text())
        said = numbers.split()
        assert bytes_in <= int(said[0])
        assert packets_in <= int(said[1])
    assert "lo" in found


def test_the_structures_have_the_sizes_of_the_headers() -> None:
    assert xen._LINK.size == 16  # struct ifinfomsg
    assert xen._MESSAGE.size == 16  # struct nlmsghdr
    assert struct.calcsize("=4Q") == 4 * ctypes.sizeof(ctypes.c_uint64)
