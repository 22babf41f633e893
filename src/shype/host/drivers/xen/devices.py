"""The devices in what ``xl create -n`` prints (libxl_domain_config as JSON; defaults left out).

What is not known here and is not empty becomes an `Other` of its own name, so that a later
libxl's new kind of device is refused and not overlooked.
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
          "on_soft_reset", "vkbs")
#: Emulated USB devices without a content of their own.
_HARMLESS_USB = ("tablet", "mouse", "keyboard")


def devices(config: Mapping[str, Any]) -> Devices:
    """All devices of a configuration. Raises KeyError, TypeError, ValueError if it is malformed."""
    return Devices(tuple(_all(config)))


def _all(config: Mapping[str, Any]) -> Iterator[Device]:
    readers = {
        "disks": _disk, "nics": _nic, "pcidevs": _pci, "vtpms": _vtpm, "vfbs": _vfb, "p9s": _p9,
        "channels": _channel, "usbdevs": _usb, "usbctrls": _usb_controller,
    }
    for key, reader in readers.items():
        for item in _list(config, key):
            yield from reader(item)
    yield from _build(config.get("b_info") or {})
    for key, value in config.items():
        if key not in readers and key not in _PLAIN and value not in ([], {}, None):
            for item in value if isinstance(value, list) else [value]:
                yield Other(key, _text(item))


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(key)
    return found


def _disk(item: Mapping[str, Any]) -> Iterator[Device]:
    cdrom = bool(item.get("is_cdrom"))
    target, form = str(item.get("pdev_path") or ""), str(item.get("format") or "unknown")
    if not target and cdrom:
        return  # an empty drive
    if item.get("backend_domname") not in DOM0_NAMES or item.get("backend_domid"):
        yield Peer(f"disk {target}", _backend(item))
        return
    yield Disk(
        target, str(item["vdev"]), form, bool(item.get("readwrite")), cdrom,
        _script(item, "disk"),
    )
    if item.get("colo_enable") in (True, "True"):
        yield Forbidden(f"disk {target} with COLO", "it is sent to another machine")


def _nic(item: Mapping[str, Any]) -> Iterator[Device]:
    bridge = str(item.get("bridge") or DEFAULT_BRIDGE)
    if item.get("backend_domname") not in DOM0_NAMES or item.get("backend_domid"):
        yield Peer(f"network {bridge}", _backend(item))
        return
    yield Nic(bridge, int(item.get("devid", 0)), _script(item, "network"))


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
    yield Peer("vTPM", _backend(item) if item.get("backend_domname") else "Domain-0")


def _vfb(item: Mapping[str, Any]) -> Iterator[Device]:
    yield from _screen(item, "frame buffer")


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
    if item.get("backend_domname") not in DOM0_NAMES:
        yield Peer("shared directory", _backend(item))


def _channel(item: Mapping[str, Any]) -> Iterator[Device]:
    if "connection.pty" not in item:  # a terminal of dom0, for root
        path = (item.get("connection.socket") or {}).get("path")
        yield Other("channel", str(path or _text(item)))


def _usb(item: Mapping[str, Any]) -> Iterator[Device]:
    host = item.get("type.hostdev") or {}
    yield Other("usb", f"{host.get('hostbus')}-{host.get('hostaddr')}" if host else _text(item))


def _usb_controller(item: Mapping[str, Any]) -> Iterator[Device]:
    if item.get("backend_domname") not in DOM0_NAMES:
        yield Peer("USB controller", _backend(item))


def _build(info: Mapping[str, Any]) -> Iterator[Device]:
    """What the toolstack builds in: files, parts of the machine, and the device model's own."""
    machine = info.get("type.hvm") or info.get("type.pvh") or info.get("type.pv") or {}
    for key, what in (("kernel", "kernel"), ("ramdisk", "RAM disk"), ("device_tree", "tables")):
        for place in (info, machine):
            if place.get(key):
                yield BootFile(str(place[key]), what)
    for key in ("system_firmware", "smbios_firmware", "acpi_firmware"):
        if machine.get(key):
            yield BootFile(str(machine[key]), "firmware")
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


def _texts(machine: Mapping[str, Any], key: str) -> list[str]:
    single = [str(machine[key])] if machine.get(key) else []
    return single + [str(text) for text in _list(machine, f"{key}_list")]


def _text(item: object) -> str:
    """A short printable form of what is not understood."""
    words = [str(value) for value in item.values()] if isinstance(item, dict) else [str(item)]
    return "".join(c if c.isprintable() else "?" for c in "-".join(words))[:200] or "device"
