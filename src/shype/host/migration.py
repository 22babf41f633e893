"""Migrate a VM to another host, over ssh: its agent decides, and this one's wall is released
when the VM has gone.  Until then, and if anything fails, the VM goes on here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shype.base import child
from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.attestation import gate as attested
from shype.host.attestation import peers
from shype.host.attestation.peers import Passport, Role
from shype.host.audit.event import Event, Result
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import Domain
from shype.host.launch import catch_up
from shype.host.receiving import Announcement
from shype.host.stop import find_whole
from shype.policy.names import LabelName

#: What a receiver runs.
COMMAND = "shype receive"
QUERY = "--query"
CHALLENGE = "--challenge"
HANDOVER = "--handover"
#: Seconds that the receiver may take to say whether it would take the VM.
_ANSWER = 180


@dataclass(frozen=True, slots=True)
class Migrated:
    """A VM that runs on ``host`` now; or ``refusal``, by the receiver, and it goes on here."""

    vm: str
    label: LabelName
    host: str
    released: tuple[str, ...] = ()
    refusal: tuple[str, str] | None = None  # id and sentence


def migrate(
    agent: Agent, vm: str, host: str, ssh: Sequence[str] = ("ssh",), *, lock_timeout: float = 30,
    leaving: bool = False,
) -> Migrated:
    """Move ``vm`` to ``host``, which ``ssh`` reaches.

    ``leaving``: an attested VM leaves a host that is not trusted any more, if the receiver, which
    decides by what this host can still show, takes it.

    Raises BadInput (``vm.*``), Unavailable (``migrate.*``, ``vm.over``, ``host.*``),
    `shype.host.stop.Locked`.
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        require_enforcing(agent)
        domain, label = find_whole(agent, vm, "vm.migrate")
    # The lock is free meanwhile: a suspended guest has not ended, and keeps its place.
    reach = (*ssh, host)
    refusal = _ask(agent, domain, label, host, reach, leaving)
    if refusal is not None:
        _record(agent, domain, label, Result.REFUSED, host, *refusal)
        return Migrated(domain.name, label, host, refusal=refusal)
    _record(agent, domain, label, Result.PERMITTED, host)
    failed: Unavailable | None = None
    try:
        agent.hypervisor.migrate(domain.domid, f"exec {shlex.join((*reach, COMMAND))}")
    except Unavailable as error:
        failed = error
    with agent.lock.hold(max(lock_timeout, 300)):
        left = next((d for d in agent.hypervisor.domains() if d.domid == domain.domid), None)
        if left is None or left.dying:
            agent.kept.forget(domain.uuid)
        released = catch_up(agent)[0].changed
    if left is None or left.dying:
        _record(agent, domain, label, Result.DONE, host)
        return Migrated(domain.name, label, host, released)
    said = failed.message if failed is not None else "xl says nothing"
    problem = _unsettled(domain, left, host, said)
    _record(agent, domain, label, Result.FAILED, host, problem.id, problem.message)
    raise problem


def _unsettled(domain: Domain, left: Domain, host: str, said: str) -> Unavailable:
    if left.name == domain.name:
        return Unavailable(
            "migrate.failed", f"{domain.name} could not be moved to {host} and goes on here:\n"
            f"{said}", "the lines above are xl's and the receiver's")
    return Unavailable(
        "migrate.unsettled",
        f"the connection broke when {domain.name} had been given away: it is suspended here as "
        f"{left.name} (domain {left.domid}), keeps its place, and may run on {host}:\n{said}",
        f"if it runs on {host}: shype stop {left.domid} --force. If not, nothing of it is lost, "
        "but xl 4.17 has no command to let it go on")


def _ask(
    agent: Agent, domain: Domain, label: LabelName, host: str, reach: Sequence[str],
    leaving: bool,
) -> tuple[str, str] | None:
    shown, theirs = None, b""
    if agent.policy.labels[label].attested:
        refused = None if leaving else attested.refusal(agent, label, "move")
        if refused is not None:
            return refused.id, refused.sentence
        theirs = _challenge(reach)
        shown = peers.passport(agent, Role.SENDER, theirs, domain.uuid)
    kept = agent.kept.get(domain.uuid)
    if kept is not None and kept.domid != domain.domid:
        kept = None
    about = Announcement(
        domain.name, domain.uuid, label, kept.config if kept else None,
        dict(kept.actions) if kept else {}, shown, theirs)
    value = _said(reach, QUERY, about.dumps())
    try:
        if value["verdict"] != "permit":
            return str(value["id"]), str(value["sentence"])
    except KeyError as error:
        raise _strange(value) from error
    if shown is not None:
        name = host.rpartition("@")[2]
        found = peers.doubt(agent, Passport.from_json(value.get("passport")), Role.RECEIVER,
                            shown.nonce, domain.uuid, name)
        if found is not None:
            decision = peers.refused(agent, label, host, found)
            return decision.id, decision.sentence
    return None


def _challenge(reach: Sequence[str]) -> bytes:
    value = _said(reach, CHALLENGE, b"")
    try:
        return bytes.fromhex(value["challenge"])
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(value) from error


def _said(reach: Sequence[str], what: str, text: bytes) -> dict[str, Any]:
    try:
        done = child.run((*reach, f"{COMMAND} {what}"), input=text, timeout=_ANSWER)
    except child.ChildFailed as error:
        raise Unavailable(
            "migrate.no-answer", f"the receiver does not take VMs: {error.message}",
            "it must run shype, enforce, and let this host call `shype receive` "
            "(docs/how-to/life-cycle.md)") from error
    try:
        value = json.loads(done.out)
    except ValueError as error:
        raise _strange(done.out) from error
    if not isinstance(value, dict):
        raise _strange(value)
    return value


def _strange(said: object) -> Unavailable:
    return Unavailable(
        "migrate.no-answer", f"the receiver's answer is not understood: {str(said)[:200]}",
        "is it a shype of the same version?")


def _record(
    agent: Agent, domain: Domain, label: LabelName, result: Result, host: str,
    error: str | None = None, message: str = "",
) -> None:
    agent.record(Event(
        kind="vm.migrate", result=result, vm=domain.name, domid=domain.domid, subject=label,
        object=f"host:{host}", error=error, message=message,
        deferrable=result is not Result.PERMITTED,
    ))
