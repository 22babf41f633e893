"""`python -m bench.network`: what the label matrix costs between two VMs that may talk.

One lab, two PV guests on one bridge, 10 MiB by TCP from one to the other: over a bridge
without the matrix, with a matrix of 2 labels, and with one of 1,000 (10,000 pairs). In
guest instructions (QEMU's -icount), backends and hypervisor included; best of three.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.policies import write
from shype.base.errors import Unavailable
from shype.cli import output
from shype.decision.security_server import SecurityServer
from shype.host.network.matrix import Matrix, matrix
from shype.host.network.ruleset import ruleset
from shype.host.network.vif import Vif
from shype.lab import probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from shype.policy.names import LabelName

BRIDGE, PORT, KIB, ROUNDS = "xenbr0", 5001, 10240, 3
MACS = ("00:16:3e:00:00:01", "00:16:3e:00:00:02")
GUESTS = ("from", "to")
#: The least that is left of the throughput of an unfiltered bridge.
AIM = 0.97


def mixed(scratch: Path, labels: int, domids: Sequence[int]) -> Matrix:
    """The matrix of ``labels`` labels; the guests carry the first two, and have the only ports."""
    file = write(scratch / f"network-{labels}.yaml", labels)
    teams = ", ".join(dict.fromkeys(f"t{n // 10}" for n in range(labels)))
    with file.open("a") as more:
        more.write(f"resources:\n  - {{network: {BRIDGE}, coalitions: [{teams}]}}\n")
    server = SecurityServer(load(file).policy)
    found = [(Vif(f"vif{domid}.0", domid, 0, BRIDGE, mac), LabelName(f"l{n}"))
             for n, (domid, mac) in enumerate(zip(domids, MACS, strict=True))]
    found += [(Vif(f"vif{1000 + n}.0", 1000 + n, 0, BRIDGE,
                   f"00:16:3e:01:{n >> 8:02x}:{n & 255:02x}"),
               LabelName(f"l{n}")) for n in range(2, labels)]
    made = matrix(server, found)
    return replace(made, ports=made.ports[: len(domids)])


def start(lab: Lab) -> list[int]:
    """The two guests, with addresses; the second takes what it is sent."""
    for name, mac in zip(GUESTS, MACS, strict=True):
        lab.put(f"/etc/{name}.cfg", config(
            name, type="pv", extra=f'vif = ["bridge={BRIDGE},mac={mac}"]'))
        done = lab.run(["xl", "create", f"/etc/{name}.cfg"], 600)
        if done.code != 0:
            raise Unavailable("bench.guest", f"the guest did not start: {done.err}")
    probe.wait_for(lab.run, GUESTS, 600)
    for n, name in enumerate(GUESTS, 1):
        asked(lab, name, "net_up", f"10.9.0.{n}/24")
    asked(lab, GUESTS[1], "net_serve", PORT)
    return [int(lab.run(["xl", "domid", name]).out) for name in GUESTS]


def asked(lab: Lab, guest: str, op: str, *args: str | int) -> float:
    """Million instructions of a transfer (0 of anything else)."""
    answer = probe.ask(lab.run, guest, op, *args, timeout=600)
    if answer.get("result") != "ok":
        raise Unavailable("bench.probe", f"{op} in {guest}: {dict(answer)}")
    value = answer.get("ns", 0)
    return float(value) / 1e6 if isinstance(value, int) else 0.0


def best(lab: Lab) -> float:
    """The best of `ROUNDS` transfers after one that is not counted."""
    counted = [asked(lab, GUESTS[0], "net_send", "10.9.0.2", PORT, KIB) for _ in range(ROUNDS + 1)]
    return min(counted[1:])


def measure(scratch: Path, sizes: Sequence[int]) -> dict[str, float]:
    """Million instructions for `KIB` KiB: without the matrix before and after, and by size."""
    found: dict[str, float] = {}
    with Lab.up(flask="disabled", icount=True) as lab:
        domids = start(lab)
        found["no matrix"] = best(lab)
        for size in sizes:
            made = mixed(scratch, size, domids)
            lab.put("/run/matrix.nft", ruleset(made))
            done = lab.run(["nft", "-f", "/run/matrix.nft"], 600)
            if done.code != 0:
                raise Unavailable("bench.load", done.err)
            output.note(f"{size} labels, {len(made.pairs)} pairs ...")
            found[f"{size:,} labels"] = best(lab)
            output.note(str(found))
        lab.run(["nft", "delete", "table", "bridge", "shype"], 600)
        found["no matrix, again"] = best(lab)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print; 1 if a matrix leaves less than `AIM` of the throughput."""
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=(2, 1000), metavar="LABELS")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shype-bench-") as name:
        found = measure(Path(name), args.sizes)
    base = found["no matrix"]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        output.table("10 MiB by TCP between two VMs, million instructions",
                     ("BRIDGE", "instructions", "throughput"),
                     [(what, f"{value:.1f}", f"{base / value:.4f}")
                      for what, value in found.items()])
    return 0 if all(base / value >= AIM for value in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
