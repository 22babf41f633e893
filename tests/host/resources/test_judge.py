"""What a device is decides, not what it is called."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.resources import identity
from shype.host.resources.device import (
    BootFile,
    Device,
    Disk,
    Forbidden,
    Nic,
    Other,
    Part,
    Peer,
)
from shype.host.resources.judge import Judge, registry_of
from shype.host.resources.registry import Registry
from shype.policy.model import ResourceKind
from tests.host.resources.shop import judge


def verdict(judge: Judge, *devices: Device) -> list[str]:
    """The ids of the denials, or of the one permission."""
    found = judge.judge(devices)
    refused = [one.decision.id for one in found if not one.decision.permitted]
    return refused or sorted({str(one.decision.id) for one in found})


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """Disks of both, and one that nobody labelled."""
    made = tmp_path / "srv"
    (made / "shared").mkdir(parents=True)
    for name in ("red-1", "blue-1", "other"):
        (made / name).write_bytes(name.encode())
    return made


def disk(path: Path, form: str = "raw", *, write: bool = True) -> Disk:
    """A disk of that file."""
    return Disk(str(path), "xvda", form, write)


def test_own_foreign_and_unlabelled(tmp_path: Path, srv: Path) -> None:
    one = judge(tmp_path)
    assert verdict(one, disk(srv / "red-1")) == ["resource.shared"]
    assert verdict(one, disk(srv / "blue-1")) == ["resource.disjoint"]
    assert verdict(one, disk(srv / "other")) == ["resource.unlabeled"]
    assert verdict(one, Nic("br-red"), Nic("br-blue"), Nic("xenbr0")) == [
        "resource.disjoint", "resource.unlabeled"]


def test_links_and_renames_change_nothing(tmp_path: Path, srv: Path) -> None:
    elsewhere = tmp_path / "home"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(srv / "blue-1")
    os.link(srv / "blue-1", elsewhere / "hard")
    (srv / "way").symlink_to(elsewhere)
    one = judge(tmp_path)
    for name in ("link", "hard"):
        assert verdict(one, disk(elsewhere / name)) == ["resource.disjoint"], name
        assert verdict(one, disk(srv / "way" / name)) == ["resource.disjoint"], name
    # a name in the place of red disks does not make it red
    (srv / "red-link").symlink_to(srv / "blue-1")
    os.link(srv / "blue-1", srv / "red-hard")
    one = judge(tmp_path)
    assert verdict(one, disk(srv / "red-link")) == ["disk.two-labels"]
    assert verdict(one, disk(srv / "red-hard")) == ["disk.two-labels"]
    assert verdict(one, disk(srv / "blue-1")) == ["disk.two-labels"]


def test_a_link_that_the_policy_names_labels_what_it_leads_to(tmp_path: Path, srv: Path) -> None:
    (srv / "red-named").symlink_to(srv / "other")
    one = judge(tmp_path)
    assert verdict(one, disk(srv / "other")) == ["resource.shared"]
    assert verdict(one, disk(srv / "red-named")) == ["resource.shared"]


def test_what_is_no_disk_is_an_error(tmp_path: Path, srv: Path) -> None:
    os.mkfifo(srv / "red-pipe")
    for path, id in ((srv / "red-gone", "disk.missing"), (srv / "red-pipe", "disk.kind"),
                     (srv, "disk.kind"), (Path("relative"), "disk.path")):
        with pytest.raises(BadInput) as caught:
            verdict(judge(tmp_path), disk(path))
        assert caught.value.id == id


def test_every_file_behind_an_image_is_asked_for(tmp_path: Path, srv: Path) -> None:
    def image(name: str, *words: str) -> Path:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(srv / name), "1M"],
                       check=True)
        (srv / name).chmod(0o600)
        return srv / name

    plain = image("red-plain.qcow2")
    foreign = image("red-foreign.qcow2", "-b", str(srv / "blue-1"), "-F", "raw")
    relative = image("red-relative.qcow2", "-b", "red-foreign.qcow2", "-F", "qcow2")
    data = image("red-data.qcow2", "-o", f"data_file={srv / 'blue-data'}")
    one = judge(tmp_path)

    def refusals(path: Path) -> set[str]:
        # (whose directory this is depends on who runs the tests)
        return set(verdict(one, disk(path, "qcow2"))) - {"disk.exchangeable"}

    assert refusals(plain) <= {"resource.shared"}
    for path in (foreign, relative, data):
        assert refusals(path) == {"resource.disjoint"}, path
    # raw, the same file is what a guest wrote, whatever that looks like
    assert verdict(one, disk(foreign)) == ["resource.shared"]
    assert verdict(one, disk(plain, "vhd")) == ["device.forbidden"]


def test_a_further_path_to_a_disk_has_its_label(
    tmp_path: Path, srv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a LUN that two block devices lead to (here files: what is tried is the judge)."""
    def twins(*names: str) -> None:
        found = [identity.look(str(srv / name)).identity for name in names]
        monkeypatch.setattr(identity, "twins", lambda one: tuple(
            other for other in found if one in found and other != one))

    twins("blue-1", "other")
    assert verdict(judge(tmp_path), disk(srv / "other")) == ["resource.disjoint"]
    assert verdict(judge(tmp_path, label="blue-vm"), disk(srv / "other")) == ["resource.shared"]
    twins("blue-1", "red-1")  # one disk to which the policy gives two labels
    assert verdict(judge(tmp_path), disk(srv / "red-1")) == ["disk.two-labels"]


def test_a_backing_file_is_only_read(tmp_path: Path, srv: Path) -> None:
    found = judge(tmp_path).judge([disk(srv / "red-1", write=False)])
    assert found[0].decision.sentence.startswith("red-vm may read disk")


def test_a_disk_that_changes_its_label_is_refused_until_it_is_wiped(
    tmp_path: Path, srv: Path
) -> None:
    registry = Registry(tmp_path / "state")
    first = judge(tmp_path, registry.read()).judge([disk(srv / "red-1")])
    registry.remember(registry_of(first))
    assert [used.label for used in registry.read().values()] == ["red"]
    assert verdict(judge(tmp_path, registry.read()), disk(srv / "red-1")) == ["resource.shared"]
    # renamed into the place of the other coalition: the file is the same
    (srv / "red-1").rename(srv / "blue-9")
    blue = judge(tmp_path, registry.read(), "blue-vm")
    assert verdict(blue, disk(srv / "blue-9")) == ["disk.relabelled"]
    key, = registry.read()
    registry.begin_wiping(key, registry.read()[key])
    blue = judge(tmp_path, registry.read(), "blue-vm")
    assert verdict(blue, disk(srv / "blue-9")) == ["disk.wiping"]
    registry.forget(key)
    blue = judge(tmp_path, registry.read(), "blue-vm")
    assert verdict(blue, disk(srv / "blue-9")) == ["resource.shared"]
    # a refused disk is not remembered
    assert registry_of(judge(tmp_path).judge([disk(srv / "blue-9")])) == {}


def test_a_new_file_under_an_old_name_is_another_disk(tmp_path: Path, srv: Path) -> None:
    old = identity.durable(identity.look(str(srv / "red-1")))
    (srv / "red-0").write_bytes(b"")
    (srv / "red-0").rename(srv / "red-1")
    assert identity.durable(identity.look(str(srv / "red-1"))) != old


def test_files_that_are_read_into_a_vm(tmp_path: Path, srv: Path) -> None:
    one = judge(tmp_path)

    def ids(path: str) -> set[str]:
        # (whose directory this is depends on who runs the tests)
        return {str(j.decision.id) for j in one.judge([BootFile(path, "kernel")])} - {
            "disk.exchangeable"}

    assert ids(str(srv / "other")) == set()
    assert ids("hvmloader") == set()
    assert ids(str(srv / "none")) == set()
    assert ids(str(srv / "red-1")) == {"resource.shared"}
    assert ids(str(srv / "blue-1")) == {"resource.disjoint"}


def test_everything_else_is_refused_unless_the_policy_names_it(tmp_path: Path, srv: Path) -> None:
    one = judge(tmp_path, running={"net": "red-vm", "spy": "blue-vm"})
    permitted: list[Device] = [
        Other("p9", str(srv / "shared")), Part(ResourceKind.PCI, "0000:03:00.0"),
    ]
    for device in permitted:
        assert verdict(one, device) == ["resource.shared"], device
    refused: list[tuple[Device, str]] = [
        (Other("p9", str(tmp_path)), "resource.unlabeled"), (Other("usb", "1-2"),
                                                             "resource.disjoint"),
        (Other("usb", "9-9"), "resource.unlabeled"), (Other("channel", "/run/s"),
                                                      "resource.unlabeled"),
        (Other("serial", "file:/etc/x y\n"), "device.forbidden"),
        (Part(ResourceKind.IOPORT, "0x2f8-0x2ff"), "resource.disjoint"),
        (Part(ResourceKind.IRQ, "3"), "resource.unlabeled"),
        (Peer("disk", "spy"), "ste.disjoint"), (Peer("disk", "nobody"), "device.backend"),
        (Forbidden("a screen on 0.0.0.0", "everybody sees it"), "device.forbidden"),
        (Nic("br-red", script="/tmp/x"), "device.script"),
        (Disk("/x", "xvda", script="/tmp/x"), "device.script"),
    ]
    for device, id in refused:
        assert id in verdict(one, device), device
    assert verdict(one, Peer("network", "net")) == ["ste.shared"]


def test_a_shared_directory_shares_the_disks_in_it(tmp_path: Path, srv: Path) -> None:
    found = judge(tmp_path).judge([Other("p9", str(srv))])
    assert "resource.disjoint" in {one.decision.id for one in found}
    assert f"disk:{srv}/blue-1" in {one.object for one in found}


def test_an_image_whose_header_others_could_change(tmp_path: Path, srv: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(srv / "red-i"), "1M"],
                   check=True)
    (srv / "red-i").chmod(0o666)
    assert "disk.exchangeable" in verdict(judge(tmp_path), disk(srv / "red-i", "qcow2"))


def test_files_read_into_a_vm_that_others_could_exchange(tmp_path: Path, srv: Path) -> None:
    srv.chmod(0o777)
    assert verdict(judge(tmp_path), BootFile(str(srv / "other"), "kernel")) == [
        "disk.exchangeable"]
    # what is not there is xl's to report, unless somebody could put it there
    assert verdict(judge(tmp_path), BootFile(str(srv / "none"), "kernel")) == [
        "disk.exchangeable"]


def test_a_path_that_others_could_exchange(tmp_path: Path, srv: Path) -> None:
    srv.chmod(0o777)
    careful = judge(tmp_path, paths_matter=True)
    assert verdict(careful, disk(srv / "red-1")) == ["disk.exchangeable"]
    assert verdict(judge(tmp_path), disk(srv / "red-1")) == ["resource.shared"]
    # QEMU, or a boot loader, opens it some time after the decision
    assert verdict(judge(tmp_path), replace(disk(srv / "red-1"), by_name=True)) == [
        "disk.exchangeable"]
