"""What the kernel and XenStore say of vifs, read from files like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.network.linux import LinuxSwitch
from shype.host.network.vif import Uplink

XENSTORE = """\
/local/domain/0/backend/vif/1/0/mac = "00:16:3E:00:00:01"
/local/domain/0/backend/vif/1/0/ip = "10.0.0.1 fe80::1"
/local/domain/0/backend/vif/2/1/mac = "fe:ff:ff:ff:ff:ff"
/local/domain/0/backend/vif/3/0/mac = "00:16:3e:00:00:03"
/local/domain/0/backend/vif/3/0/ip = "nonsense"
"""


def tool(directory: Path, name: str, text: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three vifs, one with a name of its own, one on no bridge; a bridge with an uplink."""
    net, devices = tmp_path / "net", tmp_path / "devices"
    net.mkdir()
    (net / "xenbr0" / "bridge").mkdir(parents=True)
    (net / "xenbr0" / "brif").mkdir()
    (net / "xenbr0" / "address").write_text("fe:ff:ff:ff:ff:ff\n")
    for name, device, master in (
        ("vif1.0", "vif-1-0", True), ("web", "vif-2-1", True), ("vif3.0", "vif-3-0", False),
        ("eth1.10", "", True),
    ):
        (net / name).mkdir()
        if device:
            (devices / device).mkdir(parents=True)
            (net / name / "device").symlink_to(devices / device)
        if master:
            (net / name / "master").symlink_to(net / "xenbr0")
            (net / "xenbr0" / "brif" / name).mkdir()
    (tmp_path / "vlan").mkdir()
    (tmp_path / "vlan" / "eth1.10").write_text("eth1.10  VID: 10\t REORDER_HDR: 1\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    tool(tools, "xenstore-ls", f"cat <<'X'\n{XENSTORE}X")
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    return tmp_path


def switch(directory: Path) -> LinuxSwitch:
    return LinuxSwitch(directory / "net", directory / "vlan")


def test_vifs_are_told_by_their_device_and_named_by_dom0(sysfs: Path) -> None:
    found = {v.name: v for v in switch(sysfs).vifs()}
    assert set(found) == {"vif1.0", "web", "vif3.0"}
    one = found["vif1.0"]
    assert (one.domid, one.handle, one.bridge, one.mac) == (1, 0, "xenbr0", "00:16:3e:00:00:01")
    assert [str(a) for a in one.addresses] == ["10.0.0.1", "fe80::1"]
    # The bridge's own MAC is nobody else's, and an assignment that is not understood is none.
    assert (found["web"].domid, found["web"].handle, found["web"].mac) == (2, 1, None)
    assert (found["vif3.0"].bridge, found["vif3.0"].mac) == (None, None)


def test_uplinks_and_their_vlans(sysfs: Path) -> None:
    assert switch(sysfs).uplinks() == (Uplink("eth1.10", "xenbr0", 10),)


def test_what_the_tools_refuse_is_an_error(sysfs: Path) -> None:
    tool(sysfs / "bin", "nft", "echo 'Error: no' >&2; exit 1")
    with pytest.raises(Unavailable) as caught:
        switch(sysfs).load("table bridge shype {}")
    assert caught.value.id == "network.filter"
    with pytest.raises(Unavailable):
        switch(sysfs).listing()
    tool(sysfs / "bin", "nft", "echo 'Error: No such file or directory' >&2; exit 1")
    assert switch(sysfs).listing() is None
    tool(sysfs / "bin", "nft", "echo '{}'")
    with pytest.raises(Unavailable):
        switch(sysfs).listing()
