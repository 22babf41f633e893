"""A disk that boots by BIOS and GRUB into what shype's own installation has put on it.

Made without root and without loop devices: GRUB's boot sector and core image, and one ext4
partition, dom0's /boot.  Its grub.cfg does what Debian's does: it reads custom.cfg.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from shype.base import child, cpio
from shype.base.errors import Unavailable
from shype.lab.builder import Built

GRUB = Path("/usr/lib/grub/i386-pc")
TOOLS = ("grub-mkimage", "mke2fs")
#: The partition begins here and is so large, in sectors of 512 bytes.
START, SECTORS = 2048, 160 * 2048
_MODULES = ("part_msdos", "ext2", "search", "loadenv", "multiboot2", "normal", "test", "echo",
            "serial", "terminal", "configfile", "gzio", "boot", "biosdisk", "regexp", "true",
            "minicmd", "halt")
#: The end is Debian's /etc/grub.d/41_custom. Without an entry of shype's nothing boots.
_CONFIG = """\
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
_EARLY = "set root=hd0,msdos1\nset prefix=(hd0,msdos1)/grub\nconfigfile $prefix/grub.cfg\n"
#: dom0's console, and where Xen tells about panics.
XEN_ARGS = ("loglvl=all guest_loglvl=all com1=115200,8n1 console=com1 flask=enforcing argo=1 "
            "bootscrub=0 spec-ctrl=eager-fpu")


def tree(built: Built, into: Path, arm: str, extra: Mapping[str, bytes] | None = None) -> None:
    """Fill ``into``, a host's /boot before shype is installed: Xen, kernel, RAM disk, GRUB.

    ``arm`` is the initramfs script of the installation; ``extra`` further files of the RAM disk.
    """
    (into / "grub").mkdir(parents=True)
    (into / "grub/grub.cfg").write_text(_CONFIG)
    (into / "xen-flask").write_bytes(built.xen.read_bytes())
    (into / "vmlinuz-lab").write_bytes((built.vmlinux.parent / "vmlinuz").read_bytes())
    (into / "initrd.img-lab").write_bytes(
        built.dom0_initrd.read_bytes() + _ramdisk(built, arm, extra or {}))


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
    """Write ``out``: a raw disk whose only partition has the content of ``boot``.

    Raises Unavailable (``tool.missing``).
    """
    child.require(*TOOLS)
    if not (GRUB / "boot.img").is_file():
        raise Unavailable("tool.missing", "GRUB's images for BIOS are not installed",
                          "apt-get install grub-pc-bin")
    work = out.with_suffix(".work")
    work.mkdir()
    (work / "early.cfg").write_text(_EARLY)
    child.run(["grub-mkimage", "-O", "i386-pc", "-o", work / "core.img", "-p", "(hd0,msdos1)/grub",
               "-c", work / "early.cfg", *_MODULES])
    child.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", boot,
               work / "part.img", f"{SECTORS // 2048}M"])
    sector = bytearray((GRUB / "boot.img").read_bytes())
    core = (work / "core.img").read_bytes()
    assert len(core) < (START - 1) * 512
    sector[0x66:0x68] = b"\x90\x90"  # a hard disk: no check for a floppy drive
    sector[446:510] = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                                  START, SECTORS) + bytes(48)
    sector[510:512] = b"\x55\xaa"
    with out.open("wb") as file:
        file.write(bytes(sector) + core)
        file.seek(START * 512)
        file.write((work / "part.img").read_bytes())
