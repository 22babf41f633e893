"""Configurations of the lab's guests, for ``xl create`` and ``shype run``."""

from __future__ import annotations

#: Below about 96 MiB the guests' kernel does not get through its boot.
MEMORY = 112
#: Self-tests of ciphers, set-up of kernel tracing, certificates for modules and read-only kernel
#: text are a third of the boot of a PV guest under emulation (3.9 billion instructions). Another
#: third: locks that are patched out for one processor, one by one, with an exit to Xen for each
#: (noreplace-smp); and without a TSC to calibrate it does not poll a PIT that is not there. It
#: keeps time by Xen's clock anyway. For norandmaps see `shype.lab.qemu.KERNEL_ARGS`.
QUICK_ARGS = (
    "cryptomgr.notests rodata=off noreplace-smp norandmaps clearcpuid=tsc lpj=5000000 "
    "initcall_blacklist=init_kprobe_trace,load_system_certificate_list"
)
#: A PVH guest looks for hardware it does not have; each look is an exit to Xen, and with SVM
#: itself emulated these take most of its boot.
PVH_ARGS = "pci=off 8250.nr_uarts=0 no_timer_check"

#: An HVM guest has a device model (QEMU) and boots from its first disk. QEMU would hand it a Linux
#: kernel byte by byte, which takes a minute and a half under emulation. No screen: fewer devices.
HVM_LINES = ('vga = "none"', "vnc = 0", "hpet = 0", "usb = 0")


def config(
    name: str, *, type: str = "pvh", memory: int = MEMORY, seclabel: str | None = None,
    extra: str = "", args: str = "",
) -> str:
    """The xl configuration of a small guest: busybox and the probe, all in memory.

    ``type`` is ``pv``, ``pvh`` or ``hvm`` (which boots from a disk instead), ``memory`` in
    MiB; ``extra`` are further lines (disks, vifs), ``args`` are added to the kernel's command line.
    Under emulation a PV guest boots several times faster than a PVH guest.
    """
    words = ("console=hvc0 quiet loglevel=1", QUICK_ARGS, PVH_ARGS if type == "pvh" else "", args)
    line = " ".join(word for word in words if word)
    boot = (HVM_LINES if type == "hvm" else
            ('kernel = "/guest/vmlinux"', 'ramdisk = "/guest/initrd"', f'extra = "{line}"'))
    lines = [
        f'name = "{name}"', f'type = "{type}"', *boot,
        f"memory = {memory}", "vcpus = 1", 'on_crash = "preserve"',
    ]
    if seclabel is not None:
        lines.append(f'seclabel = "{seclabel}"')
    if extra:
        lines.append(extra.strip())
    return "\n".join(lines) + "\n"
