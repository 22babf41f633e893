"""On what enforcement on a host rests beside the hypervisor: what holds, and what to do.

Looks and changes nothing. A point that the policy demands and that does not hold makes
`shype status` end with 1; without XenStore's lockdown a host does not count as enforcing at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from shype.base.errors import ShypeError, Unavailable
from shype.host import caps, quota, vectors
from shype.host.agent import Agent
from shype.host.attest_result import Reason
from shype.host.attestation.standing import Standing, enrolled, judged
from shype.host.audit import anchors
from shype.host.audit.head import Head
from shype.host.census import residents
from shype.host.kept import clock
from shype.host.network import mediation
from shype.host.resources import scripts
from shype.host.vtpm import swtpm
from shype.host.vtpm.kept import State, tpms
from shype.policy.manifest import BOOT_MANAGER
from shype.policy.model import ResourceKind
from shype.policy.quotas import show

#: The trail's file system is nearly full when it has less left than this, bytes: enough for the
#: rest of the current file and a whole one more.
NEARLY_FULL = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """One point. ``said`` is its state in a few words, ``fix`` what to do if it is not as it
    should be. ``demanded``: by the policy, or by shype itself."""

    name: str
    holds: bool
    said: str
    fix: str = ""
    demanded: bool = True

    @property
    def wrong(self) -> bool:
        """Demanded, and does not hold."""
        return self.demanded and not self.holds

    def __str__(self) -> str:
        return f"{self.said}. Fix: {self.fix}" if self.fix else self.said

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype status --json``."""
        return {"name": self.name, "holds": self.holds, "demanded": self.demanded,
                "state": self.said, "fix": self.fix or None}


def points(agent: Agent, faults: tuple[str, ...]) -> tuple[Point, ...]:
    """Of the devices and their way in; ``faults`` are those of the bridges' filter."""
    return (*_vector(agent), *_manager(agent), *_attestation(agent),
            _network(agent, faults), *_quotas(agent), *_tpms(agent), *_veto(agent), _devices(agent),
            _messages(agent))


def store_point(problem: Unavailable | None) -> Point:
    """Of XenStore's lockdown. A host where it does not hold does not count as enforcing."""
    if problem is None:
        return Point("xenstore", True, "locked")
    return Point("xenstore", False, f"NO [{problem.id}]", problem.fix)


def trail_point(agent: Agent, head: Head | None, problem: Unavailable | None) -> Point:
    """Of the audit trail: whole, sealed, with room."""
    name, here = "audit trail", agent.trail.places.key.exists()
    if problem is not None:
        return Point(name, False, f"{problem.message} [{problem.id}]", problem.fix)
    if head is None:
        return Point(name, True, "no record yet")
    said = f"anchor {head.seq}:{head.hash[:16]}"
    if head.reserve or head.lost:
        return Point(name, False, f"{said}; NO ROOM", "make room; nothing starts, and what ends is "
                     "kept in its reserve" + (f" ({head.lost} events are lost)" if head.lost
                                              else ""))
    # Neither keeps it from holding what it records; both want somebody to do something.
    fixes = []
    if here:
        said += "; its verification key is still on this host"
        fixes.append("take it away (shype audit key)")
    else:
        said += "; sealed"
    load = anchors.last(agent.trail.places.loads)
    if load is not None:
        said += f"; anchored at {load.seq}, when the policy was loaded ({load.time})"
    left = _left(agent)
    if left is not None and left < NEARLY_FULL:
        said += f"; {left // 1024} KiB are left for it"
        fixes.append("make room (move full files away: docs/how-to/audit.md)")
    return Point(name, True, said, " and ".join(fixes))


def _vector(agent: Agent) -> Iterator[Point]:
    if not agent.policy.vectors:
        return
    try:
        yield Point("vector", True, f"{vectors.in_force(agent)}, as ordered")
    except Unavailable as error:
        yield Point("vector", False, f"WRONG: {error.message} [{error.id}]", error.fix)


def _attestation(agent: Agent) -> Iterator[Point]:
    """Without a verifier's word no VM of an attested label starts."""
    if agent.policy.attestation is None:
        return
    name = "attestation"
    try:
        shown, against = judged(agent)
    except Unavailable as error:
        yield Point(name, False, f"UNKNOWN: {error.message} [{error.id}]", error.fix)
        return
    if against is not None or shown is None:
        why = f": {against.message}" if against is not None else ""
        ids = _reasons(shown, against)
        yield Point(name, False, f"NOT trusted{why}" + (f" [{', '.join(ids)}]" if ids else ""),
                    f"{_to_be_trusted(agent, against, ids)}; until then no VM of an attested label "
                    "starts")
    else:
        left = min(shown.result.expires - time.time(),
                   agent.policy.attestation.fresh - (clock() - shown.came))
        yield Point(name, True, f"{shown.result.verdict}, for {max(0, int(left))} s more")


def _reasons(shown: Standing | None, against: Reason | None) -> tuple[str, ...]:
    """The ids of what the verifier has against the host, if that is what speaks against it."""
    if shown is None or against is None or against.id != "result.not-trusted":
        return ()
    return tuple(reason.id for reason in shown.result.reasons)


def _to_be_trusted(agent: Agent, against: Reason | None, ids: tuple[str, ...]) -> str:
    """What helps: to ask the verifier again changes nothing about what it has seen."""
    if not enrolled(agent.state):
        return "shype attest enrol NAME --verifier URL, and then shype attest renew"
    id = against.id if against is not None else ""
    if id == "result.other-host":
        return "shype attest enrol again, and then shype attest renew"
    if id == "result.not-yet":
        return "set the clocks here and at the verifier right, and then shype attest renew"
    if id == "result.other-policy":
        return ("shype attest renew, when the reference values of the policy in force are "
                "published (shype attest sign)")
    if id == "result.not-trusted" and any(reason.endswith(".unknown") for reason in ids):
        return ("publish reference values that know it (shype attest sign), or boot what they "
                "know; then shype attest renew")
    if id == "result.not-trusted":
        return ("docs/how-to/attestation.md says what to do about each reason; then shype attest "
                "renew")
    return "shype attest renew"


def _messages(agent: Agent) -> Point:
    """Every denial is a line on the hypervisor's console, and waits until that has printed it."""
    if agent.hypervisor.limits_messages():
        return Point("console", True, "limited: no flood of denials fills it", demanded=False)
    return Point("console", False, "NOT limited: whoever is denied much slows the host down",
                 "boot Xen with loglvl=error/warning", demanded=False)


def _manager(agent: Agent) -> Iterator[Point]:
    """With a manager: dom0 has lost the right to build one, so it alone opens windows."""
    label = agent.policy.host.manager
    if label is None:
        return
    context = agent.manifest.labels[label].context
    there = any(d.context == context and d.ended is None for d in agent.hypervisor.domains())
    if agent.hypervisor.boolean(BOOT_MANAGER):
        yield Point("manager", False, "NOT started: dom0 may still put anything in its place",
                    "shype manager start")
    elif not there:
        yield Point("manager", False, "GONE: no window opens", "reboot the host")
    else:
        yield Point("manager", True, "in force: dom0 opens no window but through it")


def _network(agent: Agent, faults: tuple[str, ...]) -> Point:
    if faults:
        return Point("network", False, f"WRONG: {'; '.join(faults)}",
                     "shype network check; shype network load")
    if not mediation.concerned(agent):
        return Point("network", True, "no bridge is the policy's matter", demanded=False)
    ports = len(agent.hypervisor.switch().vifs())
    return Point("network", True, f"filtered: {ports} ports" if ports else "no VM has an interface")


def _quotas(agent: Agent) -> Iterator[Point]:
    """Nobody has more than the policy lets him have, and everybody is held to his share."""
    if agent.policy.quotas is None:
        return
    try:
        over = [f"{one.whose} has {show(amount, held)} of {show(amount, most)}"
                for one in quota.taken(agent, residents(agent))
                for amount, held, most in one.over()]
        loose = [f"{one.domain.name}: {one.what} at {one.now}" for one in caps.loose(agent)]
    except ShypeError as error:
        yield Point("quotas", False, f"UNKNOWN: {error.message} [{error.id}]", error.fix)
        return
    if over:
        yield Point("quotas", False, f"EXCEEDED: {'; '.join(over)}",
                    "shype meter quotas says by how much; stop a VM, or allow more")
    elif loose:
        yield Point("quotas", False, f"NOT held: {'; '.join(loose)}",
                    "shype watch puts it back; is it running?")
    else:
        yield Point("quotas", True, "kept")


def _tpms(agent: Agent) -> Iterator[Point]:
    """VMs that are to have a TPM of their own can have it, and those that were given one do."""
    found = tpms(agent)
    if not found and not any(label.vtpm for label in agent.policy.labels.values()):
        return
    bad = [f"{tpm.owner.vm if tpm.owner else tpm.uuid} ({tpm.state}"
           f"{f', [{tpm.error.id}]' if tpm.error else ''})" for tpm in found
           if tpm.state in (State.LOST, State.DAMAGED)]
    try:
        swtpm.require()
    except Unavailable as error:
        yield Point("TPMs of VMs", False, f"NONE: {error.message} [{error.id}]", error.fix)
        return
    if bad:
        yield Point("TPMs of VMs", False, f"WRONG: {', '.join(bad)}", "shype vtpm list; what is "
                    "lost comes back when the VM is stopped and started")
    else:
        served = sum(tpm.state is State.SERVED for tpm in found)
        yield Point("TPMs of VMs", True, f"{served} served, {len(found) - served} kept")


def _veto(agent: Agent) -> Iterator[Point]:
    place = agent.hypervisor.scripts()
    if place is None:
        return
    found = scripts.look(place)
    bad = [f"{s.path.name}: {s.problem}" for s in found if s.problem]
    bare = [s.path.name for s in found if not s.vetoed]
    demanded = _labels_devices(agent)
    if bad:
        yield Point("hotplug veto", False, f"WRONG: {', '.join(bad)}", "shype hotplug install",
                    demanded)
    elif bare:
        yield Point("hotplug veto", False, "NOT installed: what xl attaches by itself is not asked "
                    "for first", "shype hotplug install", demanded)
    else:
        yield Point("hotplug veto", True, "installed", demanded=demanded)


def _labels_devices(agent: Agent) -> bool:
    policy = agent.policy
    return policy.unlabeled_resources is not None or any(
        entry.kind in (ResourceKind.DISK, ResourceKind.NETWORK) for entry in policy.resources)


def _devices(agent: Agent) -> Point:
    from shype.host.resources.inventory import inventory

    try:
        found = inventory(agent)
    except ShypeError as error:
        return Point("devices", False, f"UNKNOWN: {error.message} [{error.id}]", "shype devices")
    wrong = [f"{held.vm} has {held.what} "
             f"[{held.decision.id if held.decision else 'unknown'}]"
             for held in found if not held.sound]
    if wrong:
        return Point("devices", False, f"NOT PERMITTED: {'; '.join(wrong)}",
                     "shype devices says why; shype detach takes one away")
    return Point("devices", True, f"{len(found)}, all permitted" if found else "no VM has one")


def _left(agent: Agent) -> int | None:
    """Bytes that are left for the trail; None if nobody can tell."""
    try:
        found = os.statvfs(agent.trail.directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
