"""Reads a Xen host: domains by hypercall, disks and networks from dom0's kernel.

Processor time and memory: XEN_SYSCTL_getdomaininfolist (`shype.host.drivers.xen.listing`).
Disks: Linux' xen-blkback, /sys/bus/xen-backend/devices/vbd-DOMID-NUMBER/statistics (sectors of
512 bytes).  Networks: the counters of the interfaces vifDOMID.NUMBER by rtnetlink; what dom0
receives there its guest has sent.  No program is started.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.drivers.xen.access import Questions
from shype.host.drivers.xen.console import sysctl
from shype.host.drivers.xen.flask import PAGE, Caller
from shype.host.drivers.xen.listing import Contexts, listed
from shype.host.store.client import Client
from shype.host.store.store import StoreError
from shype.meter.source import Counters, Kind, Moment, Reading, Sight

BACKENDS = Path("/sys/bus/xen-backend/devices")
_SECTOR = 512
_VBD = re.compile(r"vbd-(\d+)-(\d+)")
_VIF = re.compile(r"vif(\d+)\.(\d+)")
#: Backends in XenStore that dom0's kernel keeps no figures of.
_BLIND = ("qdisk", "9pfs", "vusb")

#: struct nlmsghdr: length, type, flags, sequence, port; struct ifinfomsg: family, type, index, ...
_MESSAGE = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_GETLINK, _NEWLINK, _DONE, _ERROR = 18, 16, 3, 2
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFNAME, _STATS64 = 3, 23
#: The first four numbers of struct rtnl_link_stats64: packets and bytes, received and sent.
_STATS = struct.Struct("=4Q")
_ROOM = 256 * 1024


class XenSource:
    """Implements `shype.meter.source.Source` in dom0."""

    def __init__(self, *, call: Caller = sysctl, contexts: Contexts | None = None,
                 backends: Path = BACKENDS) -> None:
        self._call, self._contexts, self._backends = call, contexts, backends

    def look(self) -> Sight:
        """See the protocol. Raises Unavailable (``host.*``, ``meter.unread``)."""
        moment = Moment.now()
        if self._contexts is None:
            with Questions() as asked:
                domains = listed(asked, self._call)
        else:
            domains = listed(self._contexts, self._call)
        devices: dict[int, dict[str, Counters]] = {}
        try:
            for domid, name, counters in (*self._disks(), *self._networks()):
                devices.setdefault(domid, {})[name] = counters
        except OSError as error:
            raise Unavailable("meter.unread", f"dom0 does not tell what its backends did: {error}",
                              "run this command as root in dom0") from error
        blind = self._blind()
        return Sight(moment, tuple(
            Reading(d.domid, d.uuid, d.context, d.cpu_ns, d.pages * PAGE, d.stopped or d.dying,
                    devices.get(d.domid, {}), blind.get(d.domid, ()))
            for d in domains))

    def name(self, domid: int) -> str:
        """See the protocol; a domain that has no name yet is ``domain-N``."""
        try:
            with Client() as store:
                return store.read(f"/local/domain/{domid}/name").decode(errors="replace")
        except StoreError:
            return f"domain-{domid}"

    def _disks(self) -> Iterator[tuple[int, str, Counters]]:
        for device in _entries(self._backends):
            match = _VBD.fullmatch(device)
            if match is None:
                continue
            place = f"{self._backends}/{device}/statistics"
            try:
                # The kernel gives every directory of sysfs another number.
                instance = os.stat(place).st_ino  # noqa: PTH116
                reads, writes, read, written = (
                    _number(f"{place}/{name}")
                    for name in ("rd_req", "wr_req", "rd_sect", "wr_sect"))
            except FileNotFoundError:
                continue  # it has just gone
            yield int(match[1]), f"vbd-{match[2]}#{instance}", Counters(
                Kind.DISK, read * _SECTOR, written * _SECTOR, reads, writes)

    def _networks(self) -> Iterator[tuple[int, str, Counters]]:
        for name, index, stats in links():
            match = _VIF.fullmatch(name)
            if match is not None:
                received, sent, bytes_received, bytes_sent = stats
                yield int(match[1]), f"vif-{match[2]}#{index}", Counters(
                    Kind.NETWORK, bytes_sent, bytes_received, sent, received)

    def _blind(self) -> Mapping[int, tuple[str, ...]]:
        found: dict[int, list[str]] = {}
        try:
            with Client() as store:
                for kind in _BLIND:
                    path = f"/local/domain/0/backend/{kind}"
                    for domid in _children(store, path):
                        names = [f"{kind}-{n}" for n in _children(store, f"{path}/{domid}")]
                        if names and domid.isdigit():
                            found.setdefault(int(domid), []).extend(names)
        except Unavailable:
            if self._contexts is None:
                raise
        return {domid: tuple(sorted(names)) for domid, names in found.items()}


def links() -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
    """All network interfaces: name, index, packets and bytes received and sent, as
    ``struct rtnl_link_stats64`` has them. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC,
                       socket.NETLINK_ROUTE) as link:
        body = _LINK.pack(0, 0, 0, 0, 0)
        link.send(_MESSAGE.pack(_MESSAGE.size + len(body), _GETLINK, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = link.recv(_ROOM)
            place = 0
            while place + _MESSAGE.size <= len(data):
                length, kind, _, _, _ = _MESSAGE.unpack_from(data, place)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel refuses to list interfaces")
                if kind == _NEWLINK:
                    found = _parsed(data[place + _MESSAGE.size:place + length])
                    if found is not None:
                        yield found
                place += (length + 3) & ~3


def _parsed(data: bytes) -> tuple[str, int, tuple[int, int, int, int]] | None:
    index = _LINK.unpack_from(data)[2]
    name, stats, place = "", None, _LINK.size
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        value = data[place + _ATTRIBUTE.size:place + length]
        if kind == _IFNAME:
            name = value.rstrip(b"\0").decode(errors="replace")
        elif kind == _STATS64:
            packets_in, packets_out, bytes_in, bytes_out = _STATS.unpack_from(value)
            stats = (packets_in, packets_out, bytes_in, bytes_out)
        if length < _ATTRIBUTE.size:
            break
        place += (length + 3) & ~3
    return None if stats is None else (name, index, stats)


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - thousands of them
    except FileNotFoundError:
        return []  # no backend driver is loaded


def _number(path: str) -> int:
    """One number of sysfs; thousands are read for a sample, so without `pathlib`."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(handle, 32))
    finally:
        os.close(handle)


def _children(store: Client, path: str) -> tuple[str, ...]:
    try:
        return store.directory(path)
    except StoreError:
        return ()
