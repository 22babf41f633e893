"""`python -m bench.network_load`: how long the kernel takes to load the label matrix, by ports.

On this machine's kernel, in a network namespace of its own (root, nft): a table for so many
ports of 1,000 labels on one bridge, each with an assigned address; loaded, replaced by itself, and
listed as `shype network check` does. Seconds, the best of three.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bench.policies import write
from shype.base import child
from shype.cli import output
from shype.decision.security_server import SecurityServer
from shype.host.network.matrix import matrix
from shype.host.network.ruleset import TABLE, ruleset
from shype.host.network.vif import Vif, assigned_addresses
from shype.policy.loader import load
from shype.policy.names import LabelName

BRIDGE, LABELS, SIZES, ROUNDS = "xenbr0", 1000, (10, 100, 1000, 5000), 3
#: Prints the time before and after each step, in seconds since the machine booted.
STEPS = f"""
now() {{ cut -d' ' -f1 /proc/uptime; }}
now; nft -f "$0" || exit 1; now; nft -f "$0" || exit 1; now
nft -j list table bridge {TABLE} >/dev/null || exit 1; now
"""


def server(scratch: Path) -> SecurityServer:
    """Of a policy whose labels may all use the bridge."""
    file = write(scratch / "load.yaml", LABELS)
    teams = ", ".join(dict.fromkeys(f"t{n // 10}" for n in range(LABELS)))
    with file.open("a") as more:
        more.write(f"resources:\n  - {{network: {BRIDGE}, coalitions: [{teams}]}}\n")
    return SecurityServer(load(file).policy)


def table(asked: SecurityServer, ports: int) -> str:
    """The text for nft."""
    return ruleset(matrix(asked, [
        (Vif(f"vif{n}.0", n, 0, BRIDGE, f"00:16:3e:01:{n >> 8:02x}:{n & 255:02x}",
             assigned_addresses(f"10.1.{n >> 8}.{n & 255}") or ()), LabelName(f"l{n % LABELS}"))
        for n in range(1, ports + 1)]))


def timed(file: Path) -> tuple[float, ...]:
    """Seconds: loaded, replaced, listed. Raises ChildFailed without root or nft."""
    rounds = []
    for _ in range(ROUNDS):
        done = child.run(("unshare", "-n", "sh", "-c", STEPS, file), timeout=600)
        at = list(map(float, done.out.split()))
        rounds.append([after - before for before, after in pairwise(at)])
    return tuple(min(each) for each in zip(*rounds, strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Time and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.network_load", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="PORTS")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    found: dict[int, tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory(prefix="shype-bench-") as name:
        asked = server(Path(name))
        for size in args.sizes:
            file = Path(name) / f"{size}.nft"
            file.write_text(table(asked, size))
            found[size] = timed(file)
    if args.json:
        print(json.dumps(found))
    else:
        output.table("seconds", ("PORTS", "load", "replace", "list"),
                     [(f"{size:,}", *(f"{value:.2f}" for value in values))
                      for size, values in found.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
