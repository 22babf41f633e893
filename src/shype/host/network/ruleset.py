"""The matrix as a table of nftables, for the bridges of this host.

Four hooks of the bridge family: *prerouting*, before the bridge learns an address, tells
whether a VM speaks in its own name; *forward* asks the matrix, for every port that a frame
goes to, floods included; *input* and *output* are dom0's own interface on the bridge.

A port that nobody has labelled and that is named like a vif passes nothing. Between ports that
are no VM's and no labelled uplink, and between those and dom0, the table lets everything be.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from shype.host.network.matrix import Matrix, Port
from shype.host.network.vif import Vif, link_local

TABLE = "shype"
#: Before the filters of others (ebtables: -200), so that they see only what the policy lets pass.
PRIORITY = -300
#: Interfaces of VMs, by libxl's naming; Xen's emulated ones (vif1.0-emu) as well.
_ANY_VIF = '"vif*"'
#: IEEE 802.1D addresses, 01:80:c2:00:00:00 to 0f: spanning tree, LLDP, pause, 802.1X.
_GROUP = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop"
#: Ethernet types of frames that carry a VLAN tag, or that have a length in place of a type.
_TAGGED = ("ether type { 8021q, 8021ad, 0x9100, 0x9200 } drop", "ether type < 0x600 drop")


def ruleset(matrix: Matrix) -> str:
    """Text for ``nft -f``: replaces the whole table in one transaction."""
    return "\n".join([
        f"table bridge {TABLE} {{}}", f"delete table bridge {TABLE}",
        f"table bridge {TABLE} {{", *_table(matrix), "}", "",
    ])


def _table(matrix: Matrix) -> Iterator[str]:
    known = [port for port in matrix.ports if port.number is not None]
    gate = {p.vif.name: "drop" if p.number is None else f"goto {chain(p.vif)}"
            for p in matrix.ports}
    gate |= {up.name: "goto outside" for up, _ in matrix.uplinks}
    numbers = {p.vif.name: p.number for p in known if p.number is not None}
    numbers |= {up.name: number for up, number in matrix.uplinks if number is not None}
    yield from _set("set ports", "type ifname", (f'"{name}"' for name in gate))
    yield from _set("set vms", "type ifname", (f'"{p.vif.name}"' for p in matrix.ports))
    yield from _set("map gate", "type ifname : verdict",
                    (f'"{name}" : {verdict}' for name, verdict in gate.items()))
    yield from _set("map sender", "typeof iifname : meta mark",
                    (f'"{name}" : {number}' for name, number in numbers.items()))
    yield from _set("map receiver", "typeof oifname : meta priority",
                    (f'"{name}" : {_classid(number)}' for name, number in numbers.items()))
    yield from _set("map matrix", "typeof meta mark . meta priority : verdict",
                    (f"{a} . {_classid(b)} : goto pass" for a, b in sorted(matrix.pairs)))
    yield from _set("map to_dom0", "type ifname : verdict",
                    (f'"{p.vif.name}" : {_verdict(p, matrix.to_dom0)}' for p in matrix.ports))
    yield from _set("map from_dom0", "type ifname : verdict",
                    (f'"{p.vif.name}" : {_verdict(p, matrix.from_dom0)}' for p in matrix.ports))
    # The two fields carry the classes only between here and the verdict.
    cleared = ("meta mark set 0", "meta priority set none")
    yield from _chain("pass", (*cleared, "accept"))
    yield from _chain("between", (
        *cleared, "meta mark set iifname map @sender", "meta priority set oifname map @receiver",
        "meta mark . meta priority vmap @matrix", "drop"))
    # A tag inside the one that the uplink took off would be another VLAN's further on.
    yield from _chain("outside", (*_TAGGED, "accept"))
    for port in known:
        yield from _chain(chain(port.vif), _own_name(port.vif))
    yield from _hook("prerouting", ("iifname vmap @gate", f"iifname {_ANY_VIF} drop"))
    yield from _hook("forward", (
        "iifname @ports goto between", "oifname @ports goto between",
        f"iifname {_ANY_VIF} drop", f"oifname {_ANY_VIF} drop"))
    yield from _hook("input", (
        f"iifname @vms {_GROUP}", "iifname vmap @to_dom0", f"iifname {_ANY_VIF} drop"))
    yield from _hook("output", ("oifname vmap @from_dom0", f"oifname {_ANY_VIF} drop"))


def chain(vif: Vif) -> str:
    """The name of the chain that holds what this vif may call itself."""
    return f"own_{vif.domid}_{vif.handle}"


# -- does a VM speak in its own name? -------------------------------------------------------------


def _own_name(vif: Vif) -> Iterator[str]:
    """Ethernet source, ARP sender, and the options by which IPv6 neighbours learn addresses.

    ARP: RFC 826; neighbour discovery: RFC 4861, section 4. A message whose first option is not
    the one address is dropped, except the nonce of enhanced duplicate detection (RFC 7527):
    what stands behind another option could not be seen here. Router advertisements and
    redirects are dropped: they speak for others.
    """
    assert vif.mac is not None
    four = [a for a in vif.addresses if isinstance(a, ipaddress.IPv4Address)]
    six = [a for a in vif.addresses if isinstance(a, ipaddress.IPv6Address)]
    raw = f"0x{vif.mac.replace(':', '')}"
    yield f"ether saddr != {vif.mac} drop"
    yield _GROUP
    if vif.addresses:
        yield "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept"
        yield f"ether type ip ip saddr != {_listed(four)} drop" if four else "ether type ip drop"
    yield "ether type ip accept"
    yield from _TAGGED
    yield "ether type arp arp htype != 1 drop"
    yield "ether type arp arp ptype != ip drop"
    yield "ether type arp arp hlen != 6 drop"
    yield "ether type arp arp plen != 4 drop"
    yield f"ether type arp arp saddr ether != {vif.mac} drop"
    if vif.addresses:
        yield f"ether type arp arp saddr ip != {_listed([*four, ipaddress.IPv4Address(0)])} drop"
        source = [*six, link_local(vif.mac), ipaddress.IPv6Address(0)]
        yield f"ether type ip6 ip6 saddr != {_listed(source)} drop"
        targets = " ".join(f"@th,64,128 != 0x{int(a):032x}" for a in source[:-1])
        yield f"icmpv6 type nd-neighbor-advert {targets} drop"
    yield "icmpv6 type { nd-router-advert, nd-redirect } drop"
    solicit, advert, router = "nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-solicit"
    yield f"icmpv6 type {{ {solicit}, {advert}, {router} }} ip6 nexthdr != icmpv6 drop"
    yield f"icmpv6 type {{ {solicit}, {advert} }} ip6 length != {{ 24, 32 }} drop"
    yield f"icmpv6 type {router} ip6 length != {{ 8, 16 }} drop"
    yield f"icmpv6 type {advert} ip6 length 32 @th,192,16 != 0x0201 drop"
    yield f"icmpv6 type {solicit} ip6 length 32 @th,192,16 != 0x0101 @th,192,16 != 0x0e01 drop"
    yield f"icmpv6 type {advert} ip6 length 32 @th,208,48 != {raw} drop"
    yield f"icmpv6 type {solicit} ip6 length 32 @th,192,16 0x0101 @th,208,48 != {raw} drop"
    yield f"icmpv6 type {router} ip6 length 16 @th,64,16 != 0x0101 drop"
    yield f"icmpv6 type {router} ip6 length 16 @th,80,48 != {raw} drop"
    yield "accept"


def _listed(addresses: Iterable[object]) -> str:
    return f"{{ {', '.join(dict.fromkeys(map(str, addresses)))} }}"


# -- spelling -------------------------------------------------------------------------------------


def _verdict(port: Port, permitted: frozenset[int]) -> str:
    return "accept" if port.number in permitted else "drop"


def _classid(number: int) -> str:
    """A number as nft writes a packet's priority: two halves in hexadecimal."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def _set(head: str, kind: str, elements: Iterable[str]) -> Iterator[str]:
    listed = ", ".join(elements)
    yield f" {head} {{"
    yield f"  {kind}"
    if listed:
        yield f"  elements = {{ {listed} }}"
    yield " }"


def _chain(name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f" chain {name} {{"
    yield from (f"  {rule}" for rule in rules)
    yield " }"


def _hook(name: str, rules: Iterable[str]) -> Iterator[str]:
    return _chain(name, (f"type filter hook {name} priority {PRIORITY}; policy accept;", *rules))
