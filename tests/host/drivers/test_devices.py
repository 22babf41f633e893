"""The devices in what xl itself printed for configurations with one of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import Unavailable
from shype.host.drivers.xen import xl
from shype.host.drivers.xen.devices import devices
from shype.host.hypervisor import Backend
from shype.host.resources.device import BootFile, Disk, Forbidden, Nic, Other, Part, Peer
from shype.policy.model import ResourceKind

#: Output of `xl create -n` of Xen 4.17.
FIXTURES = Path(__file__).parents[2] / "fixtures" / "xl"


def read(name: str) -> Any:
    """The configuration as JSON."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def test_one_of_everything() -> None:
    found = devices(read("every-device"))
    assert found.disks == (
        Disk("/dev/loop0", "xvda"), Disk("/srv/red-1", "xvdb"),
        Disk("/srv/red-2.qcow2", "xvdc", "qcow2"),
        Disk("/srv/red-3", "xvdd", write=False, by_name=True),
        Disk("iqn=a,portal=b", "xvde", script="block-iscsi"),
        Disk("/srv/cd.iso", "xvdf", write=False, cdrom=True, by_name=True),
        Disk("/srv/red-4", "xvdi"),
    )
    assert found.nics == (
        Nic("xenbr0", 0), Nic("xenbr0", 1, "/tmp/x"), Nic("xenbr0", 2), Nic("xenbr0", 3))
    others = [one for one in found.all if not isinstance(one, (Disk, Nic))]
    assert [one.what for one in others if isinstance(one, Forbidden)] == [
        "disk /srv/red-4 by virtio", "frame buffer on 0.0.0.0",
        "a keyboard that QEMU does not serve", "a device of the kind dtdevs, /soc/uart",
        "a socket device", "a display", "a sound card",
    ]
    assert [one for one in others if not isinstance(one, Forbidden)] == [
        Peer("disk /x", "other"), Part(ResourceKind.PCI, "0000:03:00.0"),
        Part(ResourceKind.PCI, "0000:00:04.0"), Peer("vTPM", "vtpmmgr"),
        Other("p9", "/"), Other("channel", "/tmp/s"), Other("usb", "1-2"),
        BootFile("/guest/vmlinux", "kernel"), BootFile("/guest/initrd", "RAM disk"),
        BootFile("/x.dtb", "tables"), Part(ResourceKind.IRQ, "3"),
        Part(ResourceKind.IOPORT, "0x2f8-0x2ff"),
        Part(ResourceKind.MEMORY, "0xfed40000-0xfed40fff"),
    ]


def test_a_device_model_reads_files_and_shows_a_screen() -> None:
    found = devices(read("hvm")).all
    assert [one.about for one in found] == [
        "disk /srv/cd.iso as hdc", "kernel /k", "firmware /x", "firmware /etc/shadow",
        "firmware /etc/shadow", "a device model of its own (device_model)",
        "a device model of its own (extra)", "a device model of its own (extra_hvm)",
        "screen on 0.0.0.0", "serial:file:/etc/shadow", "serial:tcp:1.2.3.4:4", "usb:host:1:2",
        "sound:hda", "graphics:host",
    ]


def test_a_kind_of_device_that_nobody_knows_yet_is_not_overlooked() -> None:
    config = {"c_info": {"name": "a"}, "b_info": {}, "newdevs": [{"path": "/x"}], "vkbs": [{}]}
    assert devices(config).all == (
        Forbidden("a device of the kind newdevs, /x", "nobody knows what it leads to"),)


#: A device of each kind that has a backend, and what it is called.
WITH_BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "disks": ("disk /x", {"pdev_path": "/x", "vdev": "xvda", "format": "raw"}),
    "nics": ("network b", {"bridge": "b"}), "vtpms": ("vTPM", {}),
    "vfbs": ("frame buffer", {"vnc": {"listen": "127.0.0.1"}}), "vkbs": ("keyboard", {}),
    "p9s": ("shared directory", {"path": "/x"}), "usbctrls": ("USB controller", {}),
    "channels": ("channel", {"connection.pty": {}}), "vdispls": ("display", {}),
    "vsnds": ("sound card", {}), "pvcallsifs": ("socket device", {}),
}


@pytest.mark.parametrize("kind", WITH_BACKENDS)
@pytest.mark.parametrize("backend", [{"backend_domname": "net"}, {"backend_domid": 3}])
def test_a_backend_in_another_domain_is_asked_about(kind: str, backend: dict[str, Any]) -> None:
    what, item = WITH_BACKENDS[kind]
    found = devices({kind: [{**item, **backend}]}).all
    assert Peer(what, str(*backend.values())) in found


@pytest.mark.parametrize(("kind", "left"), [
    ("vfbs", ()), ("vkbs", ()), ("usbctrls", ()), ("channels", ()),
    ("vtpms", (Peer("vTPM", "Domain-0"),)),
])
def test_a_backend_in_dom0_is_dom0s(kind: str, left: tuple[Peer, ...]) -> None:
    item = WITH_BACKENDS[kind][1]
    for dom0 in ({}, {"backend_domname": "Domain-0"}, {"backend_domid": 0}):
        assert devices({kind: [{**item, **dom0}]}).all == left


@pytest.mark.parametrize(("build", "by_name", "refused"), [
    ({"type.pv": {}}, False, False), ({"type.hvm": {}}, True, False),
    ({"bootloader": "pygrub", "type.pv": {}}, True, False),
    ({"type.pv": {"bootloader": "/home/user/x"}}, True, True),
    ({"bootloader": "/home/user/x"}, True, True),
    ({"bootloader": "pygrub", "bootloader_args": ["--kernel=/etc/shadow"]}, True, True),
])
def test_who_opens_a_disk_by_its_name(
    build: dict[str, Any], by_name: bool, refused: bool
) -> None:
    disk, *more = devices({"b_info": build, "disks": [
        {"pdev_path": "/a", "vdev": "xvda", "format": "raw", "readwrite": 1}]}).all
    assert disk == Disk("/a", "xvda", by_name=by_name)
    assert [type(one) for one in more] == [Forbidden] * refused


def test_frames_that_would_be_mirrored_are_refused() -> None:
    found = devices({"nics": [{"bridge": "b", "colo_sock_mirror_ip": "10.0.0.9"}]}).all
    assert found[0] == Nic("b")
    assert isinstance(found[1], Forbidden)


def test_stock_scripts_and_an_empty_drive_are_no_devices_of_their_own() -> None:
    config = {"disks": [
        {"pdev_path": "/a", "vdev": "xvda", "format": "raw", "script": "block"},
        {"vdev": "hdc", "format": "empty", "is_cdrom": 1},
    ], "nics": [{"script": "/etc/xen/scripts/vif-bridge", "bridge": "b"}]}
    assert devices(config).all == (Disk("/a", "xvda", write=False), Nic("b"))


@pytest.mark.parametrize("broken", [
    {"disks": 3}, {"disks": [{"pdev_path": "/a"}]}, {"disks": ["x"]}, {"nics": [{"devid": "x"}]},
    {"b_info": {"irqs": ["x"]}},
])
def test_what_is_malformed_is_an_error(broken: dict[str, object]) -> None:
    with pytest.raises(Unavailable) as caught:
        xl.config(json.dumps({"c_info": {"name": "a"}, **broken}))
    assert caught.value.id == "xl.output"


def test_backends_as_xenstore_lists_them() -> None:
    text = '''\
/local/domain/0/backend/vbd = ""
/local/domain/0/backend/vbd/1 = ""
/local/domain/0/backend/vbd/1/51712 = ""
/local/domain/0/backend/vbd/1/51712/params = "/srv/a \\"b\\""
/local/domain/0/backend/vbd/1/51712/physical-device = "7:2"
/local/domain/0/backend/vif/12/0 = ""
/local/domain/0/backend/vif/12/0/bridge = "xenbr0"
'''
    assert xl.backends(text) == (
        Backend("vbd", 1, "51712", {"params": '/srv/a \\"b\\"', "physical-device": "7:2"}),
        Backend("vif", 12, "0", {"bridge": "xenbr0"}),
    )
