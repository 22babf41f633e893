"""End to end: bulk transfer over a guest's real PV network and PV disk, in instructions.

Needs a lab with ``icount``: one virtual nanosecond is then one instruction of the whole
machine, of backends in dom0 and of the hypervisor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.lab import probe
from shype.lab.cost import GUEST
from shype.lab.host import Lab

#: Size of each transfer.
KIB = 10240
PORT = 5001
HOST_ADDRESS = "10.9.0.254"
GUEST_ADDRESS = "10.9.0.1"
DISK = "/run/cost.img"
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Bulk:
    """Million instructions for `KIB` KiB, by path; the best of three rounds after a warm-up."""

    net_from: float
    net_to: float
    disk_read: float
    disk_write: float

    def values(self) -> tuple[float, float, float, float]:
        """In the order of the table."""
        return (self.net_from, self.net_to, self.disk_read, self.disk_write)

    def to_json(self) -> dict[str, float]:
        """Shape in the benchmark's output."""
        return {"net_from": self.net_from, "net_to": self.net_to,
                "disk_read": self.disk_read, "disk_write": self.disk_write}


def configure() -> str:
    """Lines of the guest's configuration: a vif on dom0's bridge, a disk in dom0's memory."""
    return 'vif = ["bridge=xenbr0"]\ndisk = ["phy:/dev/loop0,xvda,w"]\n'


def make_disk(lab: Lab) -> None:
    """The disk's backing store; before the guest starts."""
    done = lab.sh(f"truncate -s {2 * KIB}K {DISK} && dd if=/dev/zero of={DISK} bs=64K "
                  f"count={KIB // 64} conv=notrunc 2>/dev/null && losetup /dev/loop0 {DISK}")
    if done.code != 0:
        raise Unavailable("bulk.disk", f"dom0 cannot make the disk: {done.err}")


def transfer(lab: Lab) -> Bulk:
    """Count all four paths."""
    lab.sh(f"ip addr replace {HOST_ADDRESS}/24 dev xenbr0; ip link set xenbr0 up")
    _must(lab, "net_up", f"{GUEST_ADDRESS}/24")
    _must(lab, "net_serve", PORT)
    lab.spawn(["probe", "net_serve", str(PORT)])
    return Bulk(
        _best(lab, "net_send", HOST_ADDRESS, PORT, KIB),
        min(_from_dom0(lab) for _ in range(_ROUNDS + 1)),
        _best(lab, "disk_read", "/dev/xvda", KIB),
        _best(lab, "disk_write", "/dev/xvda", KIB),
    )


def _best(lab: Lab, op: str, *args: str | int) -> float:
    return min(_must(lab, op, *args) for _ in range(_ROUNDS + 1))


def _must(lab: Lab, op: str, *args: str | int) -> float:
    answer = probe.ask(lab.run, GUEST, op, *args, timeout=300)
    if answer.get("result") != "ok":
        raise Unavailable("bulk.failed", f"{op} in the guest: {dict(answer)}")
    value = answer.get("ns", 0)
    return float(value) / 1e6 if isinstance(value, int) else 0.0


def _from_dom0(lab: Lab) -> float:
    done = lab.run(["probe", "net_send", GUEST_ADDRESS, str(PORT), str(KIB)], 300)
    answer = json.loads(done.out.splitlines()[-1]) if done.out.strip() else {}
    if answer.get("result") != "ok":
        raise Unavailable("bulk.failed", f"net_send in dom0: {done.out}{done.err}")
    return float(answer["ns"]) / 1e6
