"""Ethernet frames for the lab's guests to send, each with a mark that says which it is."""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
#: IEEE 802.1D group addresses.
STP, LLDP, EAPOL = "01:80:c2:00:00:00", "01:80:c2:00:00:0e", "01:80:c2:00:00:03"
ALL_NODES = "33:33:00:00:00:01"


def mac(text: str) -> bytes:
    """The six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def mark(name: str) -> bytes:
    """What `frame_heard` looks for; ``name`` has up to eight characters."""
    return b"frame:" + name.ljust(8, ".").encode()


def ethernet(to: str, source: str, kind: int, body: bytes, tags: tuple[int, ...] = ()) -> str:
    """A frame in hexadecimal; ``tags`` are VLAN ids, outermost first."""
    tagged = b"".join(struct.pack("!HH", 0x8100, vid) for vid in tags)
    return (mac(to) + mac(source) + tagged + struct.pack("!H", kind) + body).hex()


def ipv4(to: str, source: str, name: str, *, address: str = "10.9.0.1", tags: tuple[int, ...] = (),
         target: str = "10.9.0.99") -> str:
    """A datagram of an unused protocol (253, RFC 3692)."""
    body = mark(name)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 253, 0)
    ips = ipaddress.IPv4Address(address).packed + ipaddress.IPv4Address(target).packed
    total = sum(struct.unpack("!10H", head + ips))
    total = (total & 0xFFFF) + (total >> 16)
    checked = head[:10] + struct.pack("!H", ~total & 0xFFFF)
    return ethernet(to, source, 0x0800, checked + ips + body, tags)


def arp(source: str, name: str, *, sender: str | None = None, address: str = "10.9.0.1",
        to: str = BROADCAST, reply: bool = False) -> str:
    """An ARP request or reply that says ``address`` is at ``sender``."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2 if reply else 1)
    body += mac(sender or source) + ipaddress.IPv4Address(address).packed
    body += mac("00:00:00:00:00:00") + ipaddress.IPv4Address("10.9.0.99").packed
    return ethernet(to, source, 0x0806, body + mark(name))


def link_local(address: str) -> ipaddress.IPv6Address:
    """The address that a guest has by its MAC (RFC 4291, appendix A)."""
    b = mac(address)
    return ipaddress.IPv6Address(
        b"\xfe\x80" + bytes(6) + bytes([b[0] ^ 2, b[1], b[2], 0xFF, 0xFE]) + b[3:])


def neighbour(source: str, name: str, *, kind: int, option: tuple[int, str] | None,
              before: bytes = b"", address: str = "fe80::1") -> str:
    """A neighbour solicitation (135), advertisement (136), router advertisement (134) or
    solicitation (133) with a link-layer address ``option`` (type, MAC) behind ``before``."""
    # An advertisement tells about the sender, a solicitation asks about another.
    target = ipaddress.IPv6Address(address if kind == 136 else "fe80::99").packed
    fixed = {133: b"\0" * 4, 134: bytes(12), 135: b"\0" * 4 + target,
             136: b"\x20\0\0\0" + target}[kind]
    said = b"" if option is None else bytes([option[0], 1]) + mac(option[1])
    return icmpv6(source, name, bytes([kind, 0, 0, 0]) + fixed + before + said, address)


def icmpv6(source: str, name: str, body: bytes, address: str) -> str:
    """ICMPv6 (checksum filled in) to all nodes; the mark stands behind the packet."""
    here = ipaddress.IPv6Address(address).packed
    there = ipaddress.IPv6Address("ff02::1").packed
    pseudo = here + there + struct.pack("!II", len(body), 58) + body + bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255)
    return ethernet(ALL_NODES, source, 0x86DD, head + here + there + body + mark(name))


def lldp(source: str, name: str, to: str = LLDP) -> str:
    """A frame to a link-local group address."""
    return ethernet(to, source, 0x88CC, mark(name))
