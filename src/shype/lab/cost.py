"""What the hot paths cost, in guest instructions: the loop runs in dom0 against one guest.

Under ``-icount shift=0`` one virtual nanosecond is one instruction, the hypervisor's
included, so the figures do not depend on the machine or on what else it does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shype.base.errors import Unavailable
from shype.lab import guests, probe
from shype.lab.host import Lab

#: How often each operation is repeated. The spread of the mean is then below 0.5 %.
ROUNDS = 5000
GUEST = "cost"
CONFIG = "/etc/xen/vms/cost.cfg"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions per operation, with dom0's system call; ``empty`` is a hypercall of no work."""

    send: float
    map: float
    unmap: float
    copy: float
    empty: float

    def to_json(self) -> dict[str, float]:
        """Shape in ``shype demo --json`` and in the benchmark's output."""
        return {"send": self.send, "map": self.map, "unmap": self.unmap, "copy": self.copy,
                "empty": self.empty}


def prepare(lab: Lab, *, through_shype: bool) -> None:
    """Start the guest ``cost`` (its configuration is `CONFIG` in dom0) and wait for its probe.

    Through shype where FLASK enforces its policy, otherwise directly.
    """
    argv = ["shype", "run", CONFIG] if through_shype else ["xl", "create", CONFIG]
    done = lab.run(argv, 300)
    if done.code != 0:
        raise Unavailable("cost.guest", f"the guest did not start: {done.err or done.out}")
    probe.wait_for(lab.run, [GUEST])


def configuration(seclabel: str | None = None, extra: str = "") -> str:
    """A PV guest's xl configuration: raw grant maps in dom0 need no second address space."""
    return guests.config(GUEST, type="pv", seclabel=seclabel, extra=extra)


def measure(lab: Lab, rounds: int = ROUNDS) -> Cost:
    """Count. The first round of each operation warms caches, the AVC included, and is dropped."""
    domid = int(lab.run(["xl", "domid", GUEST]).out)
    port = _number(probe.ask(lab.run, GUEST, "event_offer", 0), "port")
    gref = _number(probe.ask(lab.run, GUEST, "grant_offer", 0, "rw", "cost"), "gref")
    bind = ["event_bind", str(domid), str(port), "--"]
    send = _bench(lab, [*bind, "bench_send", "@"], rounds)
    mapped = _bench(lab, ["bench_map", str(domid), str(gref)], rounds)
    copied = _bench(lab, ["bench_copy", str(domid), str(gref)], rounds)
    return Cost(
        send["ns"] / rounds, mapped["map_ns"] / rounds, mapped["unmap_ns"] / rounds,
        copied["ns"] / rounds, send["empty_ns"] / rounds,
    )


def _bench(lab: Lab, words: Sequence[str], rounds: int) -> dict[str, float]:
    last: dict[str, float] = {}
    *before, operation = _operations(words)
    argv = ["probe", *(w for part in before for w in (*part, "--"))]
    argv += [*operation, str(max(rounds // 10, 1)), "--", *operation, str(rounds)]
    done = lab.run(argv, 600)
    for line in done.out.splitlines():
        answer = json.loads(line)
        if answer.get("result") != "ok":
            raise Unavailable("cost.probe", f"the benchmark failed: {line}")
        last = answer
    if done.code != 0 or not last:
        raise Unavailable("cost.probe", f"the benchmark failed: {done.err or done.out}")
    return last


def _operations(words: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _number(answer: Mapping[str, object], name: str) -> int:
    value = answer.get(name)
    if answer.get("result") != "ok" or not isinstance(value, int):
        raise Unavailable("cost.probe", f"the guest's probe answered {dict(answer)}")
    return value
