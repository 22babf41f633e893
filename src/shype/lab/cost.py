"""What the hot paths cost, in guest instructions: the loop runs in dom0 against one guest.

Under ``-icount shift=0`` one virtual nanosecond is one instruction, the hypervisor's
included, so the figures do not depend on the machine or on what else it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.lab import builder, guests, paths, probe
from shype.lab.host import Lab
from shype.policy.manifest import Bundle
from shype.policy.names import LabelName

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


#: Context of a guest in Xen's reference policy (tools/flask/policy/modules/domU.te).
REFERENCE_GUEST = "system_u:system_r:domU_t"


@dataclass(frozen=True, slots=True)
class Subject:
    """A host to measure: how it boots (``flask``, a bundle or a foreign policy module), and the
    context of its guest; ``name`` is what a table shows."""

    name: str
    flask: str = "enforcing"
    bundle: Bundle | None = None
    module: Path | None = None
    seclabel: str | None = None

    def boot(self, extra: str = "", before: Callable[[Lab], None] = lambda lab: None) -> Lab:
        """Boot it counting, and start its guest: through shype where its policy enforces.

        ``extra`` are lines of the guest's configuration, ``before`` is done before it starts.
        The caller ends the lab.  Raises Unavailable (``cost.guest``) and what `Lab.up` raises.
        """
        # PV, because raw grant maps in dom0 then need no second address space
        config = guests.config(GUEST, type="pv", seclabel=self.seclabel, extra=extra)
        lab = Lab.up(
            bundle=self.bundle.path if self.bundle else None, files={CONFIG: config},
            flask=self.flask, policy_module=self.module, snapshot=False, icount=True,
        )
        try:
            before(lab)
            argv = ["shype", "run", CONFIG] if self.bundle else ["xl", "create", CONFIG]
            done = lab.run(argv, 300)
            if done.code != 0:
                raise Unavailable("cost.guest", f"the guest did not start: {done.err or done.out}")
            probe.wait_for(lab.run, [GUEST])
        except BaseException:
            lab.down()
            raise
        return lab

    def kept(self) -> Lab:
        """The same, from a state saved the first time: seconds instead of most of a minute."""
        state = self._state()
        if not (paths.states() / state).is_dir():
            with self.boot() as lab:
                lab.save(state)
        return Lab.restore(state)

    def _state(self) -> str:
        """A name for all that determines the state: hypervisor, guest, policy, label."""
        built = builder.load()
        parts = [built.xen, built.image, built.guest_initrd, self.module, self.flask,
                 self.seclabel, self.bundle.manifest.digest if self.bundle else None]
        return f"cost-{canonical.digest(canonical.dumps([str(part) for part in parts]))[:16]}"


def subjects(bundle: Bundle, label: LabelName) -> tuple[Subject, ...]:
    """XSM disabled, FLASK with Xen's reference policy, FLASK with ``bundle`` (guest: ``label``)."""
    return (
        Subject("XSM disabled", flask="disabled"),
        Subject("FLASK, Xen's reference policy", module=builder.load().reference,
                seclabel=REFERENCE_GUEST),
        Subject(f"FLASK, {bundle.policy.name} by shype", bundle=bundle,
                seclabel=bundle.manifest.labels[label].context),
    )


def measure(lab: Lab, rounds: int = ROUNDS) -> Cost:
    """Count. The first round of each operation warms caches, the AVC included, and is dropped."""
    domid = int(lab.run(["xl", "domid", GUEST]).out)
    port = _number(probe.ask(lab.run, GUEST, "event_offer", 0), "port")
    gref = _number(probe.ask(lab.run, GUEST, "grant_offer", 0, "rw", "cost"), "gref")
    bind = ["event_bind", str(domid), str(port), "--"]
    send = _bench(lab, ["bench_send", "@"], rounds, before=bind)
    mapped = _bench(lab, ["bench_map", str(domid), str(gref)], rounds)
    copied = _bench(lab, ["bench_copy", str(domid), str(gref)], rounds)
    return Cost(
        send["ns"] / rounds, mapped["map_ns"] / rounds, mapped["unmap_ns"] / rounds,
        copied["ns"] / rounds, send["empty_ns"] / rounds,
    )


def _bench(
    lab: Lab, operation: Sequence[str], rounds: int, before: Sequence[str] = ()
) -> dict[str, float]:
    last: dict[str, float] = {}
    warm = [*operation, str(max(rounds // 10, 1)), "--"]
    done = lab.run(["probe", *before, *warm, *operation, str(rounds)], 600)
    for line in done.out.splitlines():
        answer = json.loads(line)
        if answer.get("result") != "ok":
            raise Unavailable("cost.probe", f"the benchmark failed: {line}")
        last = answer
    if done.code != 0 or not last:
        raise Unavailable("cost.probe", f"the benchmark failed: {done.err or done.out}")
    return last


def _number(answer: Mapping[str, object], name: str) -> int:
    value = answer.get(name)
    if answer.get("result") != "ok" or not isinstance(value, int):
        raise Unavailable("cost.probe", f"the guest's probe answered {dict(answer)}")
    return value
