"""A small /boot as `shype host install` leaves it, with the lab's grub.cfg and command lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shype.attest.boot import Machine
from shype.attest.grub.image import Image
from shype.host.install.entry import Entry
from shype.host.install.places import Places
from shype.lab import grub

DEVICE = "hd0,msdos1"
FIRST, SECOND = "3a169e46efa56f31", "ec29e196b692b045"
#: A GRUB that has everything in its image, and reads its configuration from there.
SCRIPT = "search.fs_uuid 5a7e-01 root\nset prefix=($root)/grub\nconfigfile $prefix/grub.cfg\n"
PROGRAM = Image(bytes(32), frozenset((*grub.MODULES, "tpm")), SCRIPT)


def tree(root: Path, *, xen_args: str = grub.XEN_ARGS, kernel_args: str = "console=hvc0 quiet",
         separate: bool = True) -> Path:
    """Fill ``root``/boot; its path."""
    boot = root / "boot"
    (boot / "grub").mkdir(parents=True)
    (boot / "shype").mkdir()
    entry = Entry("/xen-flask", "/vmlinuz-lab", "/initrd.img-lab",
                  f"dom0_mem=768M,max:768M {xen_args}", kernel_args, 300)
    (boot / "grub/custom.cfg").write_text(entry.text(Places(root, separate)))
    (boot / "grub/grub.cfg").write_text(grub.CONFIG)
    for name in ("xen-flask", "vmlinuz-lab", "initrd.img-lab"):
        (boot / name).write_text(f"the content of {name}")
    return boot


def machine(boot: Path, script: str = SCRIPT) -> Machine:
    """It, booted by that GRUB, or by one with another ``script`` in its image."""
    return Machine(boot, (replace(PROGRAM, config=script),), DEVICE)
