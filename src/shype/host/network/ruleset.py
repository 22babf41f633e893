"""The matrix as a table of nftables, for the bridges of this host.

Four hooks of the bridge family: *prerouting*, before the bridge learns an address, tells
whether a VM speaks in its own name; *forward* asks the matrix, for every port that a frame
goes to, floods included; *input* and *output* are dom0's own interface on the bridge.

A port that nobody has labelled and that is named like a vif passes nothing. Between ports that
are no VM's and no labelled uplink, and between those and dom0, the table lets everything be.

The number of rules, chains and sets is the same for any number of ports: ports are elements of
hash sets.  The kernel keeps sets in a list and walks along it for each one that is made, anonymous
ones included, so a table with some sets for each port takes quadratic time to load.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from shype.host.network.matrix import Matrix, Port
from shype.host.network.reasons import REFUSED, Reason
from shype.host.network.vif import Address, Vif, link_local

TABLE = "shype"
#: Most elements in it, so that guests cannot make the kernel's memory grow.
MOST_REFUSED = 65535
#: Before the filters of others (ebtables: -200), so that they see only what the policy lets pass.
PRIORITY = -300
#: Interfaces of VMs, by libxl's naming; Xen's emulated ones (vif1.0-emu) as well.
_ANY_VIF = '"vif*"'
#: IEEE 802.1D addresses, 01:80:c2:00:00:00 to 0f: spanning tree, LLDP, pause, 802.1X.
_GROUP = f"ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 goto {Reason.GROUP.chain}"
#: Ethernet types of frames that carry a VLAN tag, or that have a length in place of a type.
_TAGGED = (f"ether type {{ 8021q, 8021ad, 0x9100, 0x9200 }} goto {Reason.TAG.chain}",
           f"ether type < 0x600 goto {Reason.TAG.chain}")


def ruleset(matrix: Matrix) -> str:
    """Text for ``nft -f``: replaces the whole table in one transaction."""
    return "\n".join([
        f"table bridge {TABLE} {{}}", f"delete table bridge {TABLE}",
        f"table bridge {TABLE} {{", *_table(matrix), "}", "",
    ])


def _table(matrix: Matrix) -> Iterator[str]:
    known = [port.vif for port in matrix.ports if port.number is not None]
    gate = {p.vif.name: f"goto {(Reason.CLOSED if p.number is None else Reason.MAC).chain}"
            for p in matrix.ports}
    gate |= {up.name: "goto outside" for up, _ in matrix.uplinks}
    numbers = {p.vif.name: p.number for p in matrix.ports if p.number is not None}
    numbers |= {up.name: number for up, number in matrix.uplinks if number is not None}
    yield from _set("set ports", "type ifname", (f'"{name}"' for name in gate))
    yield from _set("set vms", "type ifname", (f'"{p.vif.name}"' for p in matrix.ports))
    yield from _set("map gate", "type ifname : verdict",
                    (f'"{name}" : {verdict}' for name, verdict in gate.items()))
    yield from _names(known)
    yield from _set("map sender", "typeof iifname : meta mark",
                    (f'"{name}" : {number}' for name, number in numbers.items()))
    yield from _set("map receiver", "typeof oifname : meta priority",
                    (f'"{name}" : {_classid(number)}' for name, number in numbers.items()))
    yield from _set("map matrix", "typeof meta mark . meta priority : verdict",
                    (f"{a} . {_classid(b)} : goto pass" for a, b in sorted(matrix.pairs)))
    for name, permitted, reason in (("to_dom0", matrix.to_dom0, Reason.TO_DOM0),
                                    ("from_dom0", matrix.from_dom0, Reason.FROM_DOM0)):
        yield from _set(f"map {name}", "type ifname : verdict",
                        (f'"{p.vif.name}" : {_verdict(p, permitted, reason)}'
                         for p in matrix.ports))
    yield from _refusals()
    # The two fields carry the classes only between here and the verdict.
    cleared = ("meta mark set 0", "meta priority set none")
    yield from _chain("pass", (*cleared, "accept"))
    yield from _chain("between", (
        *cleared, "meta mark set iifname map @sender", "meta priority set oifname map @receiver",
        "meta mark . meta priority vmap @matrix",
        f"oifname . ether daddr @macs goto {Reason.PAIR.chain}", f"goto {Reason.FLOODED.chain}"))
    # A tag inside the one that the uplink took off would be another VLAN's further on.
    yield from _chain("outside", (*_TAGGED, "accept"))
    yield from _chain("others", _others())
    yield from _chain("free", (_GROUP, "ether type ip accept", "goto others"))
    yield from _chain("pinned", _pinned())
    stranger = f"{_ANY_VIF} goto {Reason.STRANGER.chain}"
    yield from _hook("prerouting", (
        "iifname . ether saddr vmap @own", "iifname vmap @gate", f"iifname {stranger}"))
    yield from _hook("forward", (
        "iifname @ports goto between", "oifname @ports goto between",
        f"iifname {stranger}", f"oifname {_ANY_VIF} drop"))
    yield from _hook("input", (
        f"iifname @vms {_GROUP}", "iifname vmap @to_dom0", f"iifname {stranger}"))
    yield from _hook("output", ("oifname vmap @from_dom0", f"oifname {_ANY_VIF} drop"))


# -- does a VM speak in its own name? -------------------------------------------------------------


def _names(known: Iterable[Vif]) -> Iterator[str]:
    """What each port may call itself. Those with assigned addresses are `pinned`."""
    own: list[str] = []
    macs: list[str] = []
    options: list[str] = []
    four: list[str] = []
    six: list[str] = []
    targets: list[str] = []
    for vif in known:
        assert vif.mac is not None
        name = f'"{vif.name}" . '
        own.append(f"{name}{vif.mac} : goto {'pinned' if vif.addresses else 'free'}")
        macs.append(f"{name}{vif.mac}")
        options.append(f"{name}0x{vif.mac.replace(':', '')}")
        addresses: dict[Address, None] = dict.fromkeys(vif.addresses)
        if addresses:
            addresses[link_local(vif.mac)] = None
        for address in addresses:
            if isinstance(address, ipaddress.IPv4Address):
                four.append(f"{name}{address}")
            else:
                six.append(f"{name}{address}")
                targets.append(f"{name}0x{int(address):032x}")
    yield from _set("map own", "type ifname . ether_addr : verdict", own)
    yield from _set("set macs", "type ifname . ether_addr", macs)
    yield from _set("set options", "typeof iifname . @th,208,48", options)
    yield from _set("set four", "type ifname . ipv4_addr", four)
    yield from _set("set six", "type ifname . ipv6_addr", six)
    yield from _set("set targets", "typeof iifname . @th,64,128", targets)


def _pinned() -> Iterator[str]:
    """A VM whose addresses are assigned: of IPv4, ARP, IPv6 and what it says of itself in
    neighbour advertisements. Until it has one, it may ask for one."""
    no = f"goto {Reason.ADDRESS.chain}"
    yield _GROUP
    yield "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept"
    yield f"ether type ip iifname . ip saddr != @four {no}"
    yield "ether type ip accept"
    yield f"ether type arp arp saddr ip != 0.0.0.0 iifname . arp saddr ip != @four {no}"
    yield f"ether type ip6 ip6 saddr != :: iifname . ip6 saddr != @six {no}"
    yield f"icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets {no}"
    yield "goto others"


def _others() -> Iterator[str]:
    """ARP sender, and the options by which IPv6 neighbours learn addresses.

    ARP: RFC 826; neighbour discovery: RFC 4861, section 4. A message whose first option is not
    the one address is dropped, except the nonce of enhanced duplicate detection (RFC 7527):
    what stands behind another option could not be seen here. Router advertisements and
    redirects are dropped: they speak for others.
    """
    yield from _TAGGED
    no = f"goto {Reason.ARP.chain}"
    yield f"ether type arp arp htype != 1 {no}"
    yield f"ether type arp arp ptype != ip {no}"
    yield f"ether type arp arp hlen != 6 {no}"
    yield f"ether type arp arp plen != 4 {no}"
    yield f"ether type arp iifname . arp saddr ether != @macs {no}"
    yield f"icmpv6 type {{ nd-router-advert, nd-redirect }} goto {Reason.ROUTER.chain}"
    solicit, advert, router = "nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-solicit"
    no = f"goto {Reason.NEIGHBOUR.chain}"
    yield f"icmpv6 type {{ {solicit}, {advert}, {router} }} ip6 nexthdr != icmpv6 {no}"
    yield f"icmpv6 type {{ {solicit}, {advert} }} ip6 length != {{ 24, 32 }} {no}"
    yield f"icmpv6 type {router} ip6 length != {{ 8, 16 }} {no}"
    yield f"icmpv6 type {advert} ip6 length 32 @th,192,16 != 0x0201 {no}"
    yield f"icmpv6 type {solicit} ip6 length 32 @th,192,16 != 0x0101 @th,192,16 != 0x0e01 {no}"
    yield f"icmpv6 type {advert} ip6 length 32 iifname . @th,208,48 != @options {no}"
    yield (f"icmpv6 type {solicit} ip6 length 32 @th,192,16 0x0101 "
           f"iifname . @th,208,48 != @options {no}")
    yield f"icmpv6 type {router} ip6 length 16 @th,64,16 != 0x0101 {no}"
    yield f"icmpv6 type {router} ip6 length 16 iifname . @th,80,48 != @options {no}"
    yield "accept"


# -- what is refused, and counted -----------------------------------------------------------------


def _refusals() -> Iterator[str]:
    """One chain for each reason: a frame that is dropped, and no other, is counted."""
    yield f" set {REFUSED} {{"
    yield "  type ifname . ifname . mark"
    yield f"  size {MOST_REFUSED}"
    yield "  flags dynamic"
    yield " }"
    for reason in Reason:
        sender = "oifname" if reason is Reason.FROM_DOM0 else "iifname"
        receiver = "oifname" if reason in (Reason.PAIR, Reason.FROM_DOM0) else "iifname"
        yield from _chain(reason.chain, (
            f"add @{REFUSED} {{ {sender} . {receiver} . {reason.value} counter }}", "drop"))


# -- spelling -------------------------------------------------------------------------------------


def _verdict(port: Port, permitted: frozenset[int], reason: Reason) -> str:
    return "accept" if port.number in permitted else f"goto {reason.chain}"


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
