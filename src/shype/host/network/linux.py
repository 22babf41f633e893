"""dom0's bridges: sysfs, XenStore, nft(8) and bridge(8)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shype.base import child
from shype.base.errors import Unavailable
from shype.host.network.reasons import REFUSED
from shype.host.network.ruleset import TABLE
from shype.host.network.switch import Listing, Refused, canonical
from shype.host.network.vif import Uplink, Vif, assigned_addresses, assigned_mac

#: Seconds that a tool may take: a table of 10,000 pairs is loaded in a tenth of one.
_LIMIT = 60
_DEVICE = re.compile(r"vif-(\d+)-(\d+)")
_NODE = re.compile(r'/local/domain/0/backend/vif/(\d+)/(\d+)/(mac|ip) = "(.*)"')
#: Loaded into a network of its own, the kernel says how it lists the same rules. The table comes
#: on standard input; nothing else is in the command.
_RENDER = f"nft -f - && nft -j list table bridge {TABLE}"
#: Of a port: no addresses are learned from it, and it takes no part in the spanning tree.
_PORT = {"learning": "0", "bpdu_guard": "1"}
#: Of a bridge that has such ports: frames to link-local groups (LLDP) teach it nothing either,
#: which no hook of nftables sees, and no guest steers where multicast goes.
_BRIDGE = {"no_linklocal_learn": "1", "multicast_snooping": "0"}


class LinuxSwitch:
    """Implements `shype.host.network.switch.Switch`. The two directories are the kernel's."""

    def __init__(
        self, root: Path = Path("/sys/class/net"), vlans: Path = Path("/proc/net/vlan")
    ) -> None:
        self._root, self._vlans = root, vlans

    def vifs(self) -> tuple[Vif, ...]:
        """See the protocol. What a guest writes in XenStore is not looked at."""
        found = dict(self._devices())
        assigned = _assigned() if found else {}
        return tuple(
            self._vif(name, domid, handle, assigned)
            for name, (domid, handle) in sorted(found.items())
        )

    def uplinks(self) -> tuple[Uplink, ...]:
        """See the protocol."""
        vifs = dict(self._devices())
        ports = sorted(self._root.glob("*/brif/*"))
        return tuple(
            Uplink(port.name, port.parent.parent.name, self._vlan(port.name))
            for port in ports if port.name not in vifs
        )

    def load(self, ruleset: str) -> None:
        """See the protocol."""
        _run(("nft", "-f", "-"), ruleset)

    def listing(self) -> Listing | None:
        """See the protocol."""
        found = _listed("table", "bridge", TABLE)
        return None if found is None else canonical(found)

    def rendered(self, ruleset: str) -> Listing:
        """See the protocol."""
        return canonical(_parse(_run(("unshare", "-n", "sh", "-c", _RENDER), ruleset).out))

    def refused(self) -> Refused:
        """See the protocol. Only the set is listed: a table may have thousands of ports."""
        tables = _listed("tables", "bridge")
        found = _listed("set", "bridge", TABLE, REFUSED)
        return Refused() if tables is None or found is None else counts([*tables, *found])

    def fasten(self, vif: Vif) -> None:
        """See the protocol."""
        try:
            wanted = self._settings(vif)
            wrong = [path for path in wanted if path.read_text().strip() != wanted[path]]
            if wrong and vif.mac is not None:
                # First the address, so that its frames are not flooded meanwhile. Sticky: it
                # stays here even if a port that does learn hears it.
                _run(("bridge", "fdb", "replace", vif.mac, "dev", vif.name, "master", "static",
                      "sticky"))
            for path in wrong:
                path.write_text(wanted[path])
        except OSError as error:
            raise _failed(f"{error.filename}: {error.strerror}") from error

    def loose(self, vifs: Sequence[Vif]) -> dict[str, str]:
        """See the protocol."""
        known = _run(("bridge", "fdb", "show")).out.splitlines() if vifs else []
        fixed = {line.split()[0]: line.split()[2] for line in known
                 if {"static", "sticky", "master"} <= set(line.split())}
        found = {}
        for vif in vifs:
            wanted = self._settings(vif)
            try:
                wrong = [path for path in wanted if path.read_text().strip() != wanted[path]]
            except OSError as error:
                found[vif.name] = f"{error.filename}: {error.strerror}"
                continue
            if wrong:
                found[vif.name] = f"{wrong[0]} is not {wanted[wrong[0]]}"
            elif fixed.get(vif.mac or "") != vif.name:
                found[vif.name] = f"{vif.bridge} has no fixed place for {vif.mac}"
        return found

    def _settings(self, vif: Vif) -> Mapping[Path, str]:
        port, bridge = self._root / vif.name / "brport", self._root / str(vif.bridge) / "bridge"
        return {**{port / key: value for key, value in _PORT.items()},
                **{bridge / key: value for key, value in _BRIDGE.items()}}

    def _devices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """The interfaces of netback, whatever they are called: the device behind says whose."""
        try:
            for entry in self._root.iterdir():
                device = entry / "device"
                match = _DEVICE.fullmatch(device.resolve().name) if device.exists() else None
                if match is not None:
                    yield entry.name, (int(match[1]), int(match[2]))
        except OSError as error:
            raise _failed(f"{error.filename}: {error.strerror}") from error

    def _vif(
        self, name: str, domid: int, handle: int, assigned: Mapping[tuple[int, int, str], str]
    ) -> Vif:
        master = self._root / name / "master"
        bridge = master.resolve().name if (master / "bridge").is_dir() else None
        addresses = assigned_addresses(assigned.get((domid, handle, "ip")))
        mac = assigned_mac(assigned.get((domid, handle, "mac")))
        if addresses is None or (bridge is not None and mac == self._address(bridge)):
            mac = None
        return Vif(name, domid, handle, bridge, mac, addresses or ())

    def _vlan(self, name: str) -> int | None:
        """The VLAN of an interface, as the kernel's 8021q says (net/8021q/vlanproc.c)."""
        try:
            match = re.search(r"\bVID: (\d+)", (self._vlans / name).read_text())
        except OSError:
            return None
        return int(match[1]) if match is not None else None

    def _address(self, name: str) -> str | None:
        try:
            return (self._root / name / "address").read_text().strip()
        except OSError:
            return None  # gone meanwhile, with its ports


def _assigned() -> dict[tuple[int, int, str], str]:
    """domid, handle, ``mac`` or ``ip`` -> value: the backend's nodes, which dom0 alone writes."""
    done = child.run(("xenstore-ls", "-f", "/local/domain/0/backend/vif"), check=False,
                     timeout=_LIMIT)
    found = (_NODE.fullmatch(line.strip()) for line in done.out.splitlines())
    return {(int(m[1]), int(m[2]), m[3]): m[4] for m in found if m is not None}


def _run(command: tuple[str, ...], text: str = "") -> child.Completed:
    try:
        return child.run(command, input=text, timeout=_LIMIT)
    except child.ChildFailed as error:
        raise _failed(error.done.err.strip() or error.message) from error


def _listed(*what: str) -> list[dict[str, Any]] | None:
    """What ``nft -j list`` prints; None if there is no such thing."""
    done = child.run(("nft", "-j", "list", *what), check=False, timeout=_LIMIT)
    if done.code != 0:
        if "No such file" in done.err:
            return None
        raise _failed(done.err.strip())
    return _parse(done.out)


def counts(found: Sequence[Mapping[str, Any]]) -> Refused:
    """What of a listing is about refused frames. Raises Unavailable (``network.filter``)."""
    table, frames = None, {}
    try:
        for item in found:
            named = item.get("table", {})
            if (named.get("family"), named.get("name")) == ("bridge", TABLE):
                table = int(named["handle"])
            listed = item.get("set", {})
            for element in listed.get("elem", ()) if listed.get("name") == REFUSED else ():
                inner = element["elem"]
                sender, receiver, reason = inner["val"]["concat"]
                frames[str(sender), str(receiver), int(reason)] = int(inner["counter"]["packets"])
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise _failed(f"`nft -j list set` printed {str(found)[:200]}") from error
    return Refused(table, frames)


def _parse(text: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError) as error:
        raise _failed(f"`nft -j list table` printed {text[:200]!r}") from error
    return found


def _failed(what: str) -> Unavailable:
    return Unavailable(
        "network.filter", f"dom0's bridges cannot be filtered: {what[-800:]}",
        "are nftables and iproute2 installed, and the kernel's modules nf_tables and bridge there?",
    )
