"""Devices of real guests: an HVM guest and its CD, images that QEMU serves, a LUN with two paths.

What a guest got is asked of who has it: QEMU's open files, the kernel's devices, XenStore.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import MEMORY, config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab import boot_sector, trails
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_faults import Answer, shype, wait_in_dom0

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: devices, version: "1.0"}
coalitions: [red, blue]
labels:
  manager: {coalitions: all}
  red-vm: {coalitions: [red]}
  blue-vm: {coalitions: [blue]}
resources:
  - {disk: "/srv/red-*", coalitions: [red]}
  - {disk: "/srv/blue-*", coalitions: [blue]}
  - {disk: "/dev/disk/by-path/*:red-lun-0", coalitions: [red]}
  - {disk: "/dev/disk/by-path/*:blue-lun-0", coalitions: [blue]}
host: {dom0: manager}
vms: {hvm: red-vm, pv: red-vm, try: red-vm, blue: blue-vm}
"""
CONTEXT = "u:r:l_red_vm_t:s0"
SETUP = """\
set -e
mkdir -p /srv
echo R >/srv/red-cd
for name in red-cd red-cd2 red-base red-lun red-disk blue-cd blue-base blue-lun; do
  truncate -s 2M /srv/$name
done
qemu-img create -q -f qcow2 -b /srv/red-base -F raw /srv/red-top.qcow2
qemu-img create -q -f qcow2 -b /srv/blue-base -F raw /srv/red-foreign.qcow2
"""


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host with disks, CDs and images of two coalitions."""
    place = tmp_path_factory.mktemp("devices")
    (place / "devices.yaml").write_text(POLICY)
    build(load(place / "devices.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle", loaded=True) as up:
        assert up.sh(SETUP).code == 0
        yield up


def start(
    lab: Lab, vm: str, extra: str, *, type: str = "pv", memory: int = MEMORY
) -> Answer:
    """`shype run` of a VM with those lines."""
    still = f"{STILL}\n" if vm == "try" else ""
    text = config(vm, type=type, memory=memory, extra=still + extra)
    lab.put(f"/run/{vm}.cfg", text)
    return shype(lab, "run", f"/run/{vm}.cfg")


def left(lab: Lab) -> list[str]:
    """All that devices leave: nodes of backends and of libxl, device nodes, QEMUs, loop devices."""
    return lab.sh(
        "for d in backend/vbd backend/qdisk backend/vfb backend/vkbd; do "
        "xenstore-ls -f /local/domain/0/$d 2>/dev/null | grep -E '/[0-9]+/[0-9]+ ='; done; "
        "xenstore-ls -f /libxl 2>/dev/null | grep -E 'device/[a-z]+/[0-9]+ ='; "
        "ls /dev | grep -E 'nbd|xvd|tap'; losetup -a; pgrep -fa [q]emu-system"
    ).out.splitlines()


def opened(lab: Lab, domid: object) -> set[str]:
    """The files of /srv that the QEMU of that domain has open."""
    out = lab.sh(f"ls -l /proc/$(xenstore-read /local/domain/{domid}/image/device-model-pid)/fd")
    return {line.split(" -> ")[1] for line in out.out.splitlines() if " -> /srv/" in line}


def devices_of(lab: Lab) -> tuple[int, list[tuple[str, object]]]:
    """`shype devices`: exit code, and what each is with the id of its decision."""
    done = shype(lab, "devices")
    found = done.value["devices"]
    assert isinstance(found, list)
    return done.code, [
        (one["what"], one["decision"]["id"] if one["decision"] else None) for one in found]


def test_an_hvm_guest_and_its_cd(lab: Lab, tmp_path: Path) -> None:
    lab.put("/srv/red-boot", boot_sector.sector(tmp_path))
    lab.sh("truncate -s 1M /srv/red-boot")
    done = start(lab, "hvm", 'cap = 20\ndisk = ["format=raw,vdev=hda,access=rw,'
                 'target=/srv/red-boot", "format=raw,vdev=hdc,access=ro,devtype=cdrom,'
                 'target=/srv/red-cd"]', type="hvm", memory=32)
    assert done.code == 0, done.value
    domid = done.value["domid"]
    assert guests(lab) == {"hvm": CONTEXT}
    assert not boolean(lab, "win_en")
    assert opened(lab, domid) == {"/srv/red-boot", "/srv/red-cd"}
    wait_in_dom0(lab, f"xl dmesg | grep -qF '(d{domid}) CD R'")  # the guest runs, and reads it
    # another label's CD is refused, and the drive keeps what it has
    refused = shype(lab, "attach", "hvm", "cd", "hdc=/srv/blue-cd")
    assert (refused.code, refused.denial) == (1, ("resource.disjoint", []))
    assert opened(lab, domid) == {"/srv/red-boot", "/srv/red-cd"}
    # an own one is changed
    assert shype(lab, "attach", "hvm", "cd", "hdc=/srv/red-cd2").code == 0
    assert "/srv/red-cd2" in opened(lab, domid)
    # xl behind shype's back: no script asks, so it is found and not prevented
    assert lab.run(["xl", "cd-insert", "hvm", "hdc", "/srv/blue-cd"], timeout=200).code == 0
    assert "/srv/blue-cd" in opened(lab, domid)
    boot = ("disk /srv/red-boot", "resource.shared")
    assert devices_of(lab) == (1, [("disk /srv/blue-cd", "resource.disjoint"), boot])
    assert shype(lab, "detach", "hvm", "cd", "hdc").code == 0
    assert opened(lab, domid) <= {"/srv/red-boot", "/srv/red-cd"}
    assert devices_of(lab) == (0, [boot])
    assert shype(lab, "denials").value["denials"] == []
    # into a file and back: the label is this host's word, the disk is decided anew
    saved = shype(lab, "save", "hvm", "/srv/hvm.img")
    assert saved.code == 0, saved.value
    assert (guests(lab), left(lab)) == ({}, [])
    again = shype(lab, "restore", "/srv/hvm.img")
    assert again.code == 0, again.value
    assert guests(lab) == {"hvm": CONTEXT}
    assert not boolean(lab, "win_en")
    assert opened(lab, again.value["domid"]) == {"/srv/red-boot"}
    assert devices_of(lab) == (0, [boot])
    assert shype(lab, "denials").value["denials"] == []
    assert shype(lab, "stop", "--force", "--timeout", "1", "hvm").code == 0
    assert left(lab) == []


def test_a_backend_in_another_vm(lab: Lab) -> None:
    """Of whatever kind, a vTPM's too: its VM and the one that it serves must share a coalition.

    There is no vTPM to run in Debian; here the domains are real, and who is asked.
    """
    assert start(lab, "pv", STILL).code == 0
    vtpm = 'vtpm = ["backend={},uuid=00000000-0000-4000-8000-000000000001"]'
    refused = start(lab, "blue", vtpm.format("pv"))
    assert (refused.code, refused.denial) == (1, ("ste.disjoint", []))
    assert start(lab, "try", vtpm.format("gone")).denial == ("device.backend", [])
    assert "blue" not in guests(lab)
    permitted = start(lab, "try", vtpm.format("pv"))
    assert permitted.error == "create.failed", "permitted; xl waits for a vTPM, and none answers"
    asked = [one for one in trails.shown(lab) if one.get("object") == "vm:pv"]
    assert [(one["vm"], one["result"], one["rule"]) for one in asked] == [
        ("blue", "refused", "ste.disjoint"), ("try", "permitted", "ste.shared")]
    assert guests(lab) == {"pv": CONTEXT}
    assert shype(lab, "stop", "--force", "pv").code == 0
    assert left(lab) == []


#: Two targets of dom0's own kernel, with one file each; two portals lead to each of them.
#: Then four sessions of the initiator, each under a name of its own as of four machines' ports,
#: and the names that udev gives what comes by the first portal.
ISCSI = """\
set -e
cd /opt/modules
for m in $(grep -v xen-pci order); do
  insmod $m 2>/dev/null || grep -q "^$(basename $m .ko | tr - _) " /proc/modules
done
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
cd /sys/kernel/config/target
mkdir -p /dev/disk/by-path core/fileio_0 iscsi
for who in red blue; do
  mkdir core/fileio_0/$who
  echo fd_dev_name=/srv/$who-lun,fd_dev_size=2097152 >core/fileio_0/$who/control
  echo 1 >core/fileio_0/$who/enable
  cat /proc/sys/kernel/random/uuid >core/fileio_0/$who/wwn/vpd_unit_serial
  group=iscsi/iqn.2026-01.example:$who/tpgt_1
  mkdir -p $group/lun/lun_0
  ln -s $PWD/core/fileio_0/$who $group/lun/lun_0/file
  for name in authentication:0 generate_node_acls:1 demo_mode_write_protect:0 \\
      cache_dynamic_acls:1; do echo ${name#*:} >$group/attrib/${name%:*}; done
  for portal in 127.0.0.1 127.0.0.2; do
    mkdir -p $group/np/$portal:3260
  done
  echo 1 >$group/enable
done
for who in red blue; do for portal in 127.0.0.1 127.0.0.2; do
  iscsistart -i iqn.2026-01.example:port-$portal -t iqn.2026-01.example:$who -g 1 \\
    -a $portal -p 3260 >/run/iscsistart.log 2>&1
done; done
"""


def lun_paths(lab: Lab) -> dict[str, list[str]]:
    """By target: its block devices, the one that comes by the first portal first."""
    out = lab.sh(
        "for s in /sys/class/iscsi_session/session*; do "
        "for b in $s/device/target*/*/block/*; do "
        "echo $(cat $s/targetname) $(cat $s/device/connection*/iscsi_connection/*/address) "
        "$(basename $b); done; done").out
    found: dict[str, list[str]] = {}
    for target, address, name in sorted(line.split() for line in out.splitlines()):
        assert address in ("127.0.0.1", "127.0.0.2")
        found.setdefault(target.rpartition(":")[2], []).append(f"/dev/{name}")
    return found


@pytest.fixture(scope="module")
def luns(lab: Lab) -> dict[str, list[str]]:
    """The paths to two LUNs; those by the first portal have the names that the policy labels."""
    done = lab.sh(ISCSI, timeout=120)
    assert done.code == 0, done.out + done.err + lab.sh("cat /run/iscsistart.log; dmesg|tail").out
    wait_in_dom0(lab, "[ $(ls /sys/class/iscsi_session/session*/device/target*/*/block | "
                      "grep -c sd) = 4 ]")
    disks = lun_paths(lab)
    assert {who: len(names) for who, names in disks.items()} == {"red": 2, "blue": 2}
    for who, (first, _) in disks.items():
        link = f"/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-iqn.2026-01.example:{who}-lun-0"
        assert lab.sh(f"ln -s {first} {link}").code == 0
    return disks


@pytest.fixture(scope="module")
def domid(lab: Lab, luns: dict[str, list[str]]) -> Iterator[object]:
    """A PV guest with an image, a block device, a LUN and a screen; by the end nothing is left."""
    assert lab.sh("losetup /dev/loop7 /srv/red-disk").code == 0
    before = left(lab)
    done = start(lab, "pv", (
        'disk = ["format=qcow2,vdev=xvda,access=rw,target=/srv/red-top.qcow2", '
        f'"phy:/dev/loop7,xvdb,w", "phy:{luns["red"][1]},xvdc,w"]\n'
        'vfb = ["type=vnc,vnclisten=127.0.0.1"]'))
    assert done.code == 0, done.value
    yield done.value["domid"]
    assert shype(lab, "stop", "--force", "--timeout", "1", "pv").code == 0
    assert left(lab) == before


def refused(lab: Lab, disk: str) -> Answer:
    """`shype run` of another VM of the same label with that disk; nothing of it stays."""
    before = left(lab)
    answer = start(lab, "try", f'disk = ["{disk}"]')
    assert guests(lab) == {"pv": CONTEXT}
    assert not boolean(lab, "win_en")
    assert left(lab) == before
    return answer


def test_an_image_that_qemu_serves_and_a_screen(lab: Lab, domid: object) -> None:
    assert opened(lab, domid) == {"/srv/red-base", "/srv/red-top.qcow2"}
    assert "0100007F:170C" in lab.get("/proc/net/tcp").decode()  # 127.0.0.1:5900, and nowhere else
    state = f"/local/domain/0/backend/qdisk/{domid}/51712/state"
    wait_in_dom0(lab, f'[ "$(xenstore-read {state})" = 4 ]')  # the guest's kernel has it
    foreign = refused(lab, "format=qcow2,vdev=xvda,access=rw,target=/srv/red-foreign.qcow2")
    assert (foreign.code, foreign.denial) == (1, ("resource.disjoint", []))


def test_a_disk_that_another_vm_has_already(lab: Lab, domid: object) -> None:
    """The policy permits it to both; Xen's own script to one at a time, of block devices."""
    second = refused(lab, "phy:/dev/loop7,xvda,w")
    assert (second.code, second.error) == (3, "create.failed"), second.value
    assert "unable to add disk" in str(second.value["message"])


def test_two_iscsi_paths_of_a_lun_are_one_disk(
    lab: Lab, luns: dict[str, list[str]], domid: object
) -> None:
    # by the path that the policy does not name
    foreign = refused(lab, f"phy:{luns['blue'][1]},xvda,w")
    assert (foreign.code, foreign.denial) == (1, ("resource.disjoint", []))
    code, found = devices_of(lab)
    assert code == 0
    assert (f"disk {luns['red'][1]}", "resource.shared") in found
    # to the kernel, the other path is free
    wiped = lab.run(["shype", "disk", "wipe", luns["red"][0]], timeout=300)
    assert wiped.code == 2
    assert "disk.in-use" in wiped.err
