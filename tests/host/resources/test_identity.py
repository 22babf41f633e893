"""Block devices as the kernel describes them in /sys: names, layers, durable keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.host.resources import identity
from shype.host.resources.identity import Identity, Thing
from shype.host.resources.paths import exchangeable

DISK, PART, MAPPED = (Identity("block", numbers) for numbers in ((8, 0), (8, 1), (253, 3)))


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """A disk with one partition, on which a device is mapped (shape of Linux' /sys)."""
    disk = tmp_path / "devices" / "sda"
    part, mapped = disk / "sda1", tmp_path / "devices" / "dm-3"
    for place, number in ((disk, "8:0"), (part, "8:1"), (mapped, "253:3")):
        place.mkdir(parents=True)
        (place / "dev").write_text(number + "\n")
    (part / "partition").write_text("1\n")
    (disk / "device").mkdir()
    (disk / "device" / "wwid").write_text("naa.5000c500  a\n")
    (mapped / "dm").mkdir()
    (mapped / "dm" / "name").write_text("vg0-red--1\n")
    (mapped / "dm" / "uuid").write_text("LVM-abc\n")
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "sda1").symlink_to(part)
    (part / "holders").mkdir()
    (part / "holders" / "dm-3").symlink_to(mapped)
    numbers = tmp_path / "dev" / "block"
    numbers.mkdir(parents=True)
    for place, number in ((disk, "8:0"), (part, "8:1"), (mapped, "253:3")):
        (numbers / number).symlink_to(place)
    return tmp_path


def test_names_are_the_kernels(sys: Path) -> None:
    assert [identity.node_name(one, sys) for one in (DISK, PART, MAPPED)] == [
        "/dev/sda", "/dev/sda1", "/dev/mapper/vg0-red--1"]
    assert identity.node_name(Identity("block", (9, 9)), sys) is None


def test_layers_go_both_ways(sys: Path) -> None:
    assert set(identity.closure(MAPPED, up=False, sys=sys)) == {PART, DISK}
    assert set(identity.closure(DISK, up=True, sys=sys)) == {PART, MAPPED}
    assert identity.closure(DISK, up=False, sys=sys) == ()
    assert identity.closure(MAPPED, up=True, sys=sys) == ()


def test_keys_outlive_a_boot(sys: Path) -> None:
    keys = [identity.durable(Thing(one, "/dev/x"), sys) for one in (DISK, PART, MAPPED)]
    assert keys == ["block wwid naa.5000c500 a", "block wwid naa.5000c500 a 1",
                    "block uuid LVM-abc"]


def path_to(sys: Path, name: str, number: str, wwid: str) -> Identity:
    """One more disk with one partition, as a further path to a logical unit is seen."""
    disk = sys / "devices" / name
    major, minor = map(int, number.split(":"))
    for place, text in ((disk, number), (disk / f"{name}1", f"{major}:{minor + 1}")):
        place.mkdir(parents=True)
        (place / "dev").write_text(text + "\n")
        (sys / "dev" / "block" / text).symlink_to(place)
    (disk / f"{name}1" / "partition").write_text("1\n")
    (disk / "device").mkdir()
    (disk / "device" / "wwid").write_text(wwid + "\n")
    (sys / "block" / name).symlink_to(disk)
    return Identity("block", (major, minor))


def test_two_paths_of_a_logical_unit_are_one_disk(sys: Path) -> None:
    (sys / "block").mkdir()
    (sys / "block" / "sda").symlink_to(sys / "devices" / "sda")
    other = path_to(sys, "sdb", "8:16", "naa.5000c500  a")
    stranger = path_to(sys, "sdc", "8:32", "naa.5000c500b")
    part = Identity("block", (8, 17))
    assert identity.twins(DISK, sys) == (other,)
    assert identity.twins(other, sys) == (DISK,)
    assert identity.twins(PART, sys) == (part,)  # the same partition, not the whole
    assert identity.twins(part, sys) == (PART,)
    assert identity.twins(stranger, sys) == ()
    assert identity.twins(MAPPED, sys) == ()
    assert identity.twins(Identity("file", (8, 0), 7), sys) == ()


@pytest.mark.parametrize("wwid", ["", "t10.ATA     QEMU HARDDISK"])
def test_names_that_many_disks_share_make_no_twins(sys: Path, wwid: str) -> None:
    (sys / "block").mkdir()
    for number, name in enumerate(("sdb", "sdc"), 1):
        one = path_to(sys, name, f"8:{number * 16}", wwid)
    assert identity.twins(one, sys) == ()


def test_a_file_is_its_inode(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    first = identity.look(str(tmp_path / "a"))
    os.link(tmp_path / "a", tmp_path / "b")
    second = identity.look(str(tmp_path / "b"))
    assert first.identity == second.identity
    assert identity.durable(first) == identity.durable(second)


def test_who_could_exchange_what_a_path_leads_to(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "disk").write_bytes(b"")
    (tmp_path / "link").symlink_to(place / "disk")
    mine = os.geteuid() == 0
    assert (exchangeable(str(tmp_path / "link")) is None) is mine
    place.chmod(0o777)
    assert str(place) in (exchangeable(str(tmp_path / "link")) or "") or not mine
    assert exchangeable(str(tmp_path / "link")) is not None
    place.chmod(0o1777)  # sticky: only the owner of a file may exchange it
    assert (exchangeable(str(tmp_path / "link")) is None) is mine
    assert (exchangeable(str(place / "none")) is None) is False  # anybody could make it
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert exchangeable(str(tmp_path / "loop")) is not None
