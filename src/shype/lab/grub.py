"""A disk that boots by GRUB into what shype's own installation has put on it, by BIOS or by UEFI.

Made without root and without loop devices: GRUB's boot sector and core image, an ext4 partition,
dom0's /boot, and an EFI system partition with GRUB as an EFI program, which measures what it does
(its module ``tpm``; there is none for BIOS).  Its grub.cfg does what Debian's does: it reads
custom.cfg.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

from shype.base import child, cpio
from shype.base.errors import Unavailable
from shype.lab.builder import Built

GRUB, GRUB_EFI = (Path("/usr/lib/grub") / name for name in ("i386-pc", "x86_64-efi"))
TOOLS = ("grub-mkimage", "mke2fs", "mkfs.vfat", "mmd", "mcopy")
#: The partitions begin here and are so large, in sectors of 512 bytes.
START, SECTORS = 2048, 160 * 2048
EFI_START, EFI_SECTORS = START + SECTORS, 8 * 2048
#: /boot's file system: the EFI program looks for it, the disks of UEFI having no fixed order.
UUID = "5a7e0b00-0000-4000-8000-000000000001"
MODULES = ("part_msdos", "ext2", "search", "loadenv", "multiboot2", "normal", "test", "echo",
            "serial", "terminal", "configfile", "gzio", "boot", "regexp", "true",
            "minicmd", "halt")
_BIOS, _EFI = ("biosdisk",), ("tpm", "search_fs_uuid", "efi_gop", "fat")
#: The end is Debian's /etc/grub.d/41_custom. Without an entry of shype's nothing boots.
CONFIG = """\
serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
set default=other
menuentry "the default before" --id other {
  echo "GRUB: the default before"
  halt
}
if [ -f ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
_EARLY_EFI = (f"search.fs_uuid {UUID} root\nset prefix=($root)/grub\n"
              "configfile $prefix/grub.cfg\n")
_EARLY = "set root=hd0,msdos1\nset prefix=(hd0,msdos1)/grub\nconfigfile $prefix/grub.cfg\n"
#: dom0's console, and where Xen tells about panics.
XEN_ARGS = ("loglvl=all guest_loglvl=all com1=115200,8n1 console=com1 flask=enforcing argo=1 "
            "bootscrub=0 spec-ctrl=eager-fpu")


def tree(built: Built, into: Path, arm: str, extra: Mapping[str, bytes] | None = None) -> None:
    """Fill ``into``, a host's /boot before shype is installed: Xen, kernel, RAM disk, GRUB.

    ``arm`` is the initramfs script of the installation; ``extra`` further files of the RAM disk.
    """
    (into / "grub").mkdir(parents=True)
    (into / "grub/grub.cfg").write_text(CONFIG)
    (into / "xen-flask").write_bytes(built.xen.read_bytes())
    (into / "vmlinuz-lab").write_bytes(_compressed(built.vmlinux))
    (into / "initrd.img-lab").write_bytes(
        built.dom0_initrd.read_bytes() + _ramdisk(built, arm, extra or {}))


def _compressed(kernel: Path) -> bytes:
    """As Xen unpacks it (xen/common/decompress.c): with its size behind.

    Debian's own is compressed with xz, which takes Xen ten times as long.
    """
    child.require("zstd")
    with tempfile.TemporaryDirectory() as work:
        child.run(["zstd", "-q", "-6", "-o", f"{work}/kernel", kernel])
        data = (Path(work) / "kernel").read_bytes()
    return data + struct.pack("<I", kernel.stat().st_size)


def _ramdisk(built: Built, arm: str, extra: Mapping[str, bytes]) -> bytes:
    """What update-initramfs would add: the script, and the watchdog's driver for its modprobe."""
    modules = built.vmlinux.parent / "modules"
    kernel = f"lib/modules/{built.versions['linux'].removeprefix('linux-image-')}"
    return cpio.archive([
        *(cpio.directory(name) for name in
          ("scripts", "scripts/init-top", "lib", "lib/modules", kernel)),
        cpio.file("scripts/init-top/shype", arm.encode(), 0o755),
        *(cpio.file(f"{kernel}/{name}", (modules / name).read_bytes())
          for name in ("watchdog.ko", "xen_wdt.ko")),
        cpio.file(f"{kernel}/modules.dep", b"watchdog.ko:\nxen_wdt.ko: watchdog.ko\n"),
        *(cpio.file(name, data, 0o755) for name, data in extra.items()),
    ])


def disk(boot: Path, out: Path) -> None:
    """Write ``out``: a raw disk with the content of ``boot`` in its first partition.

    Raises Unavailable (``tool.missing``).
    """
    child.require(*TOOLS)
    for image, package in ((GRUB / "boot.img", "grub-pc-bin"),
                           (GRUB_EFI / "tpm.mod", "grub-efi-amd64-bin")):
        if not image.is_file():
            raise Unavailable("tool.missing", f"GRUB's {image} is not installed",
                              f"apt-get install {package}")
    work = out.with_suffix(".work")
    work.mkdir()
    core = _image(work, "i386-pc", "(hd0,msdos1)/grub", _EARLY, _BIOS)
    child.run(["mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-E", "root_owner=0:0", "-d", boot,
               work / "part.img", f"{SECTORS // 2048}M"])
    sector = bytearray((GRUB / "boot.img").read_bytes())
    assert len(core) < (START - 1) * 512
    sector[0x66:0x68] = b"\x90\x90"  # a hard disk: no check for a floppy drive
    sector[446:510] = (_partition(0x80, 0x83, START, SECTORS)
                       + _partition(0, 0xef, EFI_START, EFI_SECTORS) + bytes(32))
    sector[510:512] = b"\x55\xaa"
    with out.open("wb") as file:
        file.write(bytes(sector) + core)
        file.seek(START * 512)
        file.write((work / "part.img").read_bytes())
        file.seek(EFI_START * 512)
        file.write(_system_partition(work))


def efi_program(disk: Path) -> bytes:
    """GRUB as it is on the EFI system partition of a disk that `disk` wrote."""
    return (disk.with_suffix(".work") / "core.x86_64-efi").read_bytes()


def _partition(active: int, kind: int, start: int, sectors: int) -> bytes:
    return struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, sectors)


def _image(work: Path, kind: str, prefix: str, early: str, modules: tuple[str, ...]) -> bytes:
    (work / "early.cfg").write_text(early)
    path = work / f"core.{kind}"
    child.run(["grub-mkimage", "-O", kind, "-o", path, "-p", prefix, "-c", work / "early.cfg",
               *MODULES, *modules])
    return path.read_bytes()


def _system_partition(work: Path) -> bytes:
    """FAT, with GRUB where firmware looks on a disk that it does not know."""
    _image(work, "x86_64-efi", "/grub", _EARLY_EFI, _EFI)
    fat = work / "esp.img"
    fat.write_bytes(bytes(EFI_SECTORS * 512))
    child.run(["mkfs.vfat", "-F", "12", fat])
    child.run(["mmd", "-i", fat, "::/EFI", "::/EFI/BOOT"])
    child.run(["mcopy", "-i", fat, work / "core.x86_64-efi", "::/EFI/BOOT/BOOTX64.EFI"])
    return fat.read_bytes()
