"""Records, once for each boot and policy, that a policy is loaded, and anchors the trail."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from shype.base.errors import ShypeError
from shype.host.admission import enforced
from shype.host.agent import Agent
from shype.host.audit import anchors
from shype.host.audit.event import Event, Result
from shype.host.journal import boot_id


def record_load(agent: Agent) -> None:
    """If the hypervisor has this policy and that is not on record for this boot: record it.

    Never stands in the way: on a full disk the record waits in the trail's reserve, and the
    anchor is made by a later command; who may not write the state may still look.
    """
    from shype.host.audit.stamp import stamped

    digest, boot, file = agent.manifest.digest, boot_id(), agent.trail.places.loads
    with contextlib.suppress(ShypeError):
        before = anchors.last(file)
        if before is not None and (before.boot, before.digest) == (boot, digest):
            return
        if not enforced(agent):
            return
        policy = agent.manifest.policy
        event = Event(
            kind="bundle.load", result=Result.DONE, object=f"bundle:{agent.bundle.path}",
            deferrable=True, details={
                "policy": policy.name, "version": policy.version, "digest": digest,
                "target": agent.manifest.target,
                "enforcement": str(agent.hypervisor.enforcement())})
        with agent.trail.writer() as writer:
            writer.append(stamped(event), deferrable=True)
            anchors.note(file, writer.head, digest=digest, boot=boot,
                         time=datetime.now(UTC).isoformat(timespec="seconds"))
