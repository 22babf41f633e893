"""Guests on one bridge that send frames of every kind, and who heard which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shype.compile.flask.build import build
from shype.lab import probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab.states import resumed

#: Two coalitions, a label in both, and a label above one of them; the bridge is at the lower level.
POLICY = """\
shype: 1
policy: {name: nets, version: "1.0"}
coalitions: {red: {write-up: true}, blue: {}}
levels: {order: [low, high]}
labels:
  boss: {coalitions: all}
  red-vm: {coalitions: [red], level: low}
  blue-vm: {coalitions: [blue], level: low}
  both-vm: {coalitions: [red, blue], level: low}
  red-top: {coalitions: [red], level: high}
host: {dom0: boss}
vms: {r1: red-vm, r2: red-vm, b1: blue-vm, x1: both-vm, t1: red-top}
resources:
  - {network: xenbr0, coalitions: [red, blue], level: low}
  - {network: up0.10, coalitions: [red], level: low}
  - {network: up0.20, coalitions: [blue], level: low}
"""
BRIDGE = "xenbr0"
LABELS = {"r1": "red-vm", "r2": "red-vm", "b1": "blue-vm", "x1": "both-vm", "t1": "red-top"}
MACS = {name: f"00:16:3e:00:00:{n:02x}" for n, name in enumerate(LABELS, 1)}
#: r2's address is assigned by its configuration.
ADDRESS = {"r2": "10.9.0.2"}
#: Characters of frames in one request: the probe's line has 1024.
_ROOM = 900


def up(scratch: Path) -> Lab:
    """A lab with all of them, started through shype and listening; the caller ends it.

    Whoever comes second goes on from what the first has saved: these starts take a minute.
    """
    return resumed("network-test", [POLICY], lambda: _started(scratch))


def _started(scratch: Path) -> Lab:
    file, out = scratch / "nets.yaml", scratch / "nets"
    file.write_text(POLICY)
    build(load(file).policy, target="xen-4.17", out=out)
    lab = Lab.up(bundle=out, loaded=True)
    try:
        for name in LABELS:
            ip = f",ip={ADDRESS[name]}" if name in ADDRESS else ""
            # The guest's own kernel must not say anything (router solicitations come for ever).
            lab.put(f"/etc/xen/vms/{name}.cfg", config(
                name, type="pv", args="ipv6.disable=1",
                extra=f'vif = ["bridge={BRIDGE},mac={MACS[name]}{ip}"]'))
            done = lab.run(["shype", "run", f"/etc/xen/vms/{name}.cfg"], 900)
            assert done.code == 0, done.out + done.err
        probe.wait_for(lab.run, list(LABELS), 300)
        for answer in probe.script(lab.run, [(name, "frame_listen") for name in LABELS]):
            assert answer["result"] == "ok", answer
    except BaseException:
        lab.down()
        raise
    return lab


@dataclass
class Traffic:
    """Frames to send, by sender, and what each of the guests then heard of all."""

    lab: Lab
    guests: Sequence[str] = tuple(LABELS)
    frames: dict[str, list[str]] = field(default_factory=dict)

    def send(self, sender: str, frame: str) -> None:
        """Put ``frame`` (hexadecimal) on the list."""
        self.frames.setdefault(sender, []).append(frame)

    def heard(self) -> Mapping[str, frozenset[str]]:
        """Send all; the marks that each guest received, without what fills them up."""
        steps = [(s, "frame_send", packed) for s, f in self.frames.items() for packed in _packed(f)]
        answers = probe.script(self.lab.run, [*steps, *((g, "frame_heard") for g in self.guests)])
        self.frames.clear()
        assert all(answer["result"] == "ok" for answer in answers), answers
        return {
            guest: frozenset(name.rstrip(".") for name in str(answer["names"]).split())
            for guest, answer in zip(self.guests, answers[len(steps):], strict=True)
        }


def _packed(frames: Sequence[str]) -> list[str]:
    """Frames in as few requests as there is room for."""
    packed: list[str] = []
    for frame in frames:
        if packed and len(packed[-1]) + 1 + len(frame) <= _ROOM:
            packed[-1] += f",{frame}"
        else:
            packed.append(frame)
    return packed
