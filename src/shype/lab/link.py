"""Network cables, plugged in while labs run: between two of them, or to this machine.

They are not part of the machine, so the labs' snapshots do not depend on them.
"""

from __future__ import annotations

import time

from shype.base.errors import Unavailable
from shype.lab.host import Lab
from shype.lab.qemu import Monitor

#: Seconds that dom0 gets to find its new interface.
_FOUND = 60
#: What a dom0 does with it: bring up the interface that has this address.
_SET_UP = """
modprobe -q virtio_net
for net in /sys/class/net/*; do
    if [ "$(cat $net/address)" = "{mac}" ]; then
        ip link set "${{net##*/}}" up && ip address add {address}/24 dev "${{net##*/}}" && exit 0
    fi
done
exit 1
"""


def link(first: Lab, second: Lab, network: str = "10.21.0") -> tuple[str, str]:
    """Connect two labs; their IPv4 addresses, NETWORK.1 and NETWORK.2.

    Raises Unavailable (``lab.no-link``) if a dom0 does not find its interface.
    """
    path = str(first.directory / "link")
    addresses = (f"{network}.1", f"{network}.2")
    for number, (lab, address) in enumerate(zip((first, second), addresses, strict=True), 1):
        _plug(lab, "link", f"52:54:00:21:00:{number:02x}", address, type="stream",
              server=number == 1, addr={"type": "unix", "path": path})
    return addresses


def uplink(lab: Lab) -> str:
    """Let dom0 reach what listens at this machine's own address; where that is for dom0.

    Raises Unavailable (``lab.no-link``).
    """
    _plug(lab, "up", "52:54:00:21:01:01", "10.0.2.15", type="user", ipv6=False)
    return "10.0.2.2"  # QEMU's user network has it so


def _plug(lab: Lab, name: str, mac: str, address: str, **netdev: object) -> None:
    with Monitor(lab.directory) as monitor:
        monitor.command("netdev_add", id=name, **netdev)
        monitor.command("device_add", driver="virtio-net-pci", netdev=name, mac=mac,
                        id=f"{name}-nic")
    deadline = time.monotonic() + _FOUND
    while lab.sh(_SET_UP.format(mac=mac, address=address)).code != 0:
        if time.monotonic() > deadline:
            raise Unavailable(
                "lab.no-link", f"dom0 of {lab.name} does not find its new interface")
        time.sleep(0.5)
