"""The ports of dom0's bridges: VMs' network interfaces, and what leads outside."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

#: An address of the VM that its configuration assigns.
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_GROUP = 0x01  # of the first byte: a group address, which nobody sends from


@dataclass(frozen=True, slots=True)
class Vif:
    """A backend in dom0: the interface ``name`` is number ``handle`` of domain ``domid``.

    ``bridge`` is None if it is a port of none. ``mac`` (lower case) and ``addresses`` are what
    the toolstack assigned, from nodes of XenStore that only dom0 writes; ``mac`` is None if
    there is no usable one. No ``addresses``: the VM chooses its own.
    """

    name: str
    domid: int
    handle: int
    bridge: str | None
    mac: str | None
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Uplink:
    """A port ``name`` of ``bridge`` that is no VM's.

    ``vlan`` is the id with which its frames are tagged outside, None if they are not.
    """

    name: str
    bridge: str
    vlan: int | None = None

    @property
    def misnamed(self) -> bool:
        """It is called after another VLAN than its own (``eth1.10`` is VLAN 10 of eth1)."""
        number = self.name.rpartition(".")[2]
        return number.isascii() and number.isdigit() and "." in self.name and (
            self.vlan != int(number))


def assigned_mac(text: str | None) -> str | None:
    """The one spelling of a MAC that a station can have, or None."""
    word = (text or "").strip().lower()
    if _MAC.fullmatch(word) is None or int(word[:2], 16) & _GROUP or word == "00:00:00:00:00:00":
        return None
    return word


def assigned_addresses(text: str | None) -> tuple[Address, ...] | None:
    """The addresses of an ``ip=`` (separated by blanks or commas), None if one is none."""
    found: list[Address] = []
    for word in re.split(r"[\s,]+", (text or "").strip()):
        if word:
            try:
                found.append(ipaddress.ip_address(word.partition("/")[0]))
            except ValueError:
                return None
    return tuple(dict.fromkeys(found))


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The address that IPv6 derives from a MAC (RFC 4291, appendix A)."""
    b = bytes.fromhex(mac.replace(":", ""))
    host = bytes([b[0] ^ 2, b[1], b[2], 0xFF, 0xFE, *b[3:]])
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + host)
