"""The devices in what ``xl create -n`` prints (libxl_domain_config as JSON; defaults left out).

What is not known here and is not empty becomes `Forbidden`, so that a later libxl's new kind of
device is refused and not overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shype.host.resources.device import (
    BootFile,
    Device,
    Devices,
    Disk,
    Forbidden,
    Nic,
    Other,
    Part,
    Peer,
)
from shype.policy.model import ResourceKind

#: libxl's bridge for an interface that names none (libxl_nic.c).
DEFAULT_BRIDGE = "xenbr0"
#: The scripts that are Xen's own for files, devices and bridges of dom0.
STOCK = {"disk": ("block",), "network": ("vif-bridge",)}
#: Where Xen keeps them.
SCRIPTS = "/etc/xen/scripts/"
#: Names of dom0 as a backend.
DOM0_NAMES = (None, "", "0", "Domain-0")
_LOOPBACK = (None, "", "127.0.0.1", "::1", "localhost")
#: Top-level keys that hold no device: identity, build, and what happens at the VM's end.
_PLAIN = ("c_info", "b_info", "on_poweroff", "on_reboot", "on_watchdog", "on_crash",
          "on_soft_reset")
#: Xen's own boot loader, which reads a VM's disk in dom0.
_BOOT_LOADERS = ("pygrub", "/usr/bin/pygrub")  # libxl looks for both in its own directory
#: Devices that programs in dom0 serve of which nobody can tell what they lead to, and why.
_SERVED = {
    "vdispls": ("display", "a program in dom0 would show it to people of no label"),
    "vsnds": ("sound card", "a program in dom0 would play and record for the VM"),
    "pvcallsifs": ("socket device", "the VM would use dom0's own network"),
}
#: Emulated USB devices without a content of their own.
_HARMLESS_USB = ("tablet", "mouse", "keyboard")


def devices(config: Mapping[str, Any]) -> Devices:
    """All devices of a configuration. Raises KeyError, TypeError, ValueError if it is malformed."""
    return Devices(tuple(_all(config)))


def _all(config: Mapping[str, Any]) -> Iterator[Device]:
    build = config.get("b_info") or {}
    for item in _list(config, "disks"):
        yield from _disk(item, by_name="type.hvm" in build or _loader(build) is not None)
    readers = {
        "nics": _nic, "pcidevs": _pci, "vtpms": _vtpm, "vfbs": _vfb, "vkbs": _vkb, "p9s": _p9,
        "channels": _channel, "usbdevs": _usb, "usbctrls": _usb_controller,
    }
    for key, reader in readers.items():
        for item in _list(config, key):
            yield from reader(item)
    yield from _build(build)
    for key, value in config.items():
        if key in ("disks", *readers, *_PLAIN) or value in ([], {}, None):
            continue
        for item in value if isinstance(value, list) else [value]:
            yield _unknown(key, item)


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(key)
    return found


def _unknown(key: str, item: Any) -> Device:
    what, why = _SERVED.get(
        key, (f"device of the kind {key}, {_text(item)}", "nobody knows what it leads to"))
    if key in _SERVED and _elsewhere(item):
        return Peer(what, _backend(item))
    return Forbidden(f"a {what}", why)


def _elsewhere(item: Mapping[str, Any]) -> bool:
    """Whether the backend is in another domain than dom0."""
    return item.get("backend_domname") not in DOM0_NAMES or bool(item.get("backend_domid"))


def _disk(item: Mapping[str, Any], *, by_name: bool) -> Iterator[Device]:
    """``by_name``: a device model or boot loader opens the VM's disks by their paths.

    QEMU does so, too, where it is the backend: what libxl has told it to serve, and CDs.
    """
    cdrom, backend = bool(item.get("is_cdrom")), item.get("backend")
    target, form = str(item.get("pdev_path") or ""), str(item.get("format") or "unknown")
    if not target and cdrom:
        return  # an empty drive
    if _elsewhere(item):
        yield Peer(f"disk {target}", _backend(item))
        return
    yield Disk(
        target, str(item["vdev"]), form, bool(item.get("readwrite")), cdrom,
        _script(item, "disk"), by_name=by_name or cdrom or backend == "qdisk",
    )
    if item.get("colo_enable") in (True, "True"):
        yield Forbidden(f"disk {target} with COLO", "it is sent to another machine")
    if backend == "standalone" or item.get("specification") == "virtio":
        yield Forbidden(f"disk {target} by virtio",
                        "a program that libxl does not know would serve it")


def _nic(item: Mapping[str, Any]) -> Iterator[Device]:
    bridge = str(item.get("bridge") or DEFAULT_BRIDGE)
    if _elsewhere(item):
        yield Peer(f"network {bridge}", _backend(item))
        return
    yield Nic(bridge, int(item.get("devid", 0)), _script(item, "network"))
    if any(key.startswith("colo") and value for key, value in item.items()):
        yield Forbidden(f"network {bridge} with COLO", "its frames are sent to another machine")


def _script(item: Mapping[str, Any], kind: str) -> str | None:
    """The hotplug script, None if it is Xen's own for that kind."""
    script = item.get("script")
    if not script:
        return None
    return None if str(script).removeprefix(SCRIPTS) in STOCK[kind] else str(script)


def _backend(item: Mapping[str, Any]) -> str:
    return str(item.get("backend_domname") or item.get("backend_domid"))


def _pci(item: Mapping[str, Any]) -> Iterator[Device]:
    numbers = [int(item.get(key, 0)) for key in ("domain", "bus", "dev", "func")]
    mask = int(item.get("vfunc_mask", 1))
    for function in range(8) if mask not in (0, 1) else [numbers[3]]:
        if mask in (0, 1) or mask >> function & 1:
            name = f"{numbers[0]:04x}:{numbers[1]:02x}:{numbers[2]:02x}.{function}"
            yield Part(ResourceKind.PCI, name)


def _vtpm(item: Mapping[str, Any]) -> Iterator[Device]:
    """What it seals and measures is kept by the backend, so dom0 is asked about as well."""
    yield Peer("vTPM", _backend(item) if _elsewhere(item) else "Domain-0")


def _vfb(item: Mapping[str, Any]) -> Iterator[Device]:
    if _elsewhere(item):
        yield Peer("frame buffer", _backend(item))
    yield from _screen(item, "frame buffer")


def _vkb(item: Mapping[str, Any]) -> Iterator[Device]:
    """A keyboard of dom0's own QEMU has no content; one of another backend is what that sends."""
    if _elsewhere(item):
        yield Peer("keyboard", _backend(item))
    elif item.get("backend_type") not in (None, "qemu"):
        yield Forbidden("a keyboard that QEMU does not serve",
                        "a program that libxl does not know would type into the VM")


def _screen(item: Mapping[str, Any], what: str) -> Iterator[Device]:
    """A VM's screen shows all that it does to whoever can connect."""
    for key, place in (("vnc", "listen"), ("spice", "host")):
        shown = item.get(key) or {}
        if shown.get(place) not in _LOOPBACK:
            yield Forbidden(
                f"{what} on {shown[place]}",
                "it would show the VM's screen to the network, which no label covers; let it "
                "listen on 127.0.0.1",
            )


def _p9(item: Mapping[str, Any]) -> Iterator[Device]:
    yield Other("p9", str(item.get("path")))
    if _elsewhere(item):
        yield Peer("shared directory", _backend(item))


def _channel(item: Mapping[str, Any]) -> Iterator[Device]:
    if _elsewhere(item):
        yield Peer("channel", _backend(item))
    if "connection.pty" not in item:  # a terminal of dom0, for root
        path = (item.get("connection.socket") or {}).get("path")
        yield Other("channel", str(path or _text(item)))


def _usb(item: Mapping[str, Any]) -> Iterator[Device]:
    host = item.get("type.hostdev") or {}
    yield Other("usb", f"{host.get('hostbus')}-{host.get('hostaddr')}" if host else _text(item))


def _usb_controller(item: Mapping[str, Any]) -> Iterator[Device]:
    if _elsewhere(item):
        yield Peer("USB controller", _backend(item))


def _build(info: Mapping[str, Any]) -> Iterator[Device]:
    """What the toolstack builds in: files, parts of the machine, and the device model's own."""
    machine = info.get("type.hvm") or info.get("type.pvh") or info.get("type.pv") or {}
    for key, what in (("kernel", "kernel"), ("ramdisk", "RAM disk"), ("device_tree", "tables")):
        for place in (info, machine):
            if place.get(key):
                yield BootFile(str(place[key]), what)
    for key in ("system_firmware", "smbios_firmware", "acpi_firmware", "pvshim_path"):
        if machine.get(key):
            yield BootFile(str(machine[key]), "firmware")
    for key in ("stubdomain_kernel", "stubdomain_ramdisk"):
        if info.get(key):
            yield BootFile(str(info[key]), "device model")
    loader, told = _loader(info), info.get("bootloader_args") or machine.get("bootloader_args")
    if loader and (loader not in _BOOT_LOADERS or told):
        yield Forbidden(f"a boot loader of its own ({loader}{' with arguments' if told else ''})",
                        "it runs as root in dom0 and may open anything")
    for number in _list(info, "irqs"):
        yield Part(ResourceKind.IRQ, str(int(number)))
    for item in _list(info, "ioports"):
        first = int(item.get("first", 0))
        last = first + int(item.get("number", 1)) - 1
        yield Part(ResourceKind.IOPORT, f"{first:#x}-{last:#x}")
    for item in _list(info, "iomem"):
        start, count = int(item.get("start", 0)), int(item.get("number", 1))
        yield Part(ResourceKind.MEMORY, f"{start * 4096:#x}-{(start + count) * 4096 - 1:#x}")
    for key in ("device_model", "extra", "extra_pv", "extra_hvm"):
        if info.get(key):
            yield Forbidden(
                f"a device model of its own ({key})",
                "it runs as root in dom0 and may open anything",
            )
    yield from _screen(machine, "screen")
    for text in _texts(machine, "serial"):
        if text not in ("pty", "null", "none"):
            yield Other("serial", text)
    for text in _texts(machine, "usbdevice"):
        if text not in _HARMLESS_USB:
            yield Other("usb", text)
    if machine.get("soundhw"):
        yield Other("sound", str(machine["soundhw"]))
    if machine.get("gfx_passthru") in (True, "True"):
        yield Other("graphics", "host")


def _loader(info: Mapping[str, Any]) -> str | None:
    return info.get("bootloader") or (info.get("type.pv") or {}).get("bootloader") or None


def _texts(machine: Mapping[str, Any], key: str) -> list[str]:
    single = [str(machine[key])] if machine.get(key) else []
    return single + [str(text) for text in _list(machine, f"{key}_list")]


def _text(item: object) -> str:
    """A short printable form of what is not understood."""
    words = [str(value) for value in item.values()] if isinstance(item, dict) else [str(item)]
    return "".join(c if c.isprintable() else "?" for c in "-".join(words))[:200] or "device"
