"""Receive a VM that migrates here: decided by this host's own policy, as a restoration is.

It speaks the receiver's part of xl's migration protocol itself (tools/xl/xl_migrate.c): a
banner; from the sender the head and the stream of a saved VM; "ready"; from the sender "go";
a report.  Until "go" the sender may take its VM back, and does if the stream ends: so every
refusal is simply an end.  After it, a report of failure gives the VM back.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.decision.decision import Decision
from shype.host import vectors
from shype.host.agent import Agent
from shype.host.attest_result import Reason
from shype.host.attestation import gate as attested
from shype.host.attestation import peers
from shype.host.attestation.peers import Passport, Role
from shype.host.audit.event import Event, Result
from shype.host.census import residents, running
from shype.host.hostcheck import require_enforcing, require_policy
from shype.host.hypervisor import VmConfig
from shype.host.image import Head, read_head
from shype.host.kept import Kept, KeptVms
from shype.host.labeling import Labelling, label_for
from shype.host.launch import Observer, Outcome, Request, catch_up, ready, told
from shype.host.launch_events import LaunchEvents
from shype.host.restoring import CHUNK, labelling, mismatch, request
from shype.policy.names import LabelName

BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause\0"
GO = b"domain is yours, you are cleared to unpause\0"
REPORT = b"my copy unpause results are as follows\0"

#: Seconds that the sender gets for its next word.
_PATIENCE = 120
#: Seconds between two looks whether the toolstack has ended.
_LOOK = 0.2


def receive(
    agent: Agent, hear: int, tell_it: int, peer: str, *,
    observer: Observer = lambda step: None, lock_timeout: float = 30,
) -> Outcome:
    """Receive one VM; ``hear`` and ``tell_it`` are descriptors of the stream to the sender.

    ``peer`` names the sender in the audit trail. A refusal is an `Outcome`.  Raises as
    `shype.host.restoring.restore`, and Unavailable (``receive.broken-off``).
    """
    line = _Line(hear, tell_it)
    try:
        with told(LaunchEvents(agent, f"host:{peer}", "receive")) as tell:
            require_policy(agent)
            require_enforcing(agent)  # asked again under the lock
            line.say(BANNER)
            head = read_head(line.read)

            def begun() -> Request:
                ready(agent, observer)
                return _request(agent, head, line, peer)

            with agent.lock.hold(lock_timeout):
                outcome = tell(begun, observer)
    except BaseException:
        if line.gone:  # destroyed here: the sender may have it back
            line.say(REPORT + b"\x01" + GO)
        raise
    if outcome.domid is not None:
        line.say(REPORT + b"\0")
    return outcome


def _request(agent: Agent, head: Head, line: _Line, peer: str) -> Request:
    named = labelling(agent, head)
    announced = incoming(agent).get(head.uuid)
    incoming(agent).forget(head.uuid)
    if announced is not None and (announced.vm, announced.label) != (head.name, named.label):
        announced = None

    def check() -> None:
        line.say(READY)
        if line.read(len(GO)) != GO:
            raise _broken()
        line.gone = True

    if named.label is not None and agent.policy.labels[named.label].attested and not (
            announced is not None and peers.expected(agent, head.uuid)):
        why = Reason("peer.no-passport", "it has not proved anything before it sent")
        named = Labelling(None, peers.refused(agent, named.label, peer, why))
    if announced is None:
        return request(agent, head, named, None, head.actions, line.memory, check)
    return request(
        agent, head, named, announced.config, announced.actions, line.memory, check)


class _Line:
    """The stream to the sender. ``gone``: it has given its VM away."""

    def __init__(self, hear: int, tell: int) -> None:
        self._hear, self._tell = hear, tell
        self.gone = False

    def say(self, words: bytes) -> None:
        """Raises Unavailable (``receive.broken-off``) if nobody hears it."""
        try:
            while words:
                words = words[os.write(self._tell, words):]
        except OSError as error:
            raise _broken() from error

    def read(self, size: int) -> bytes:
        """So many bytes, fewer if the sender ends. Raises Unavailable if it falls silent."""
        data = b""
        while len(data) < size:
            if not select.select([self._hear], [], [], _PATIENCE)[0]:
                raise _broken()
            chunk = os.read(self._hear, size - len(data))
            if not chunk:
                break
            data += chunk
        return data

    def memory(self, ended: Callable[[], bool]) -> Iterator[bytes]:
        """What the sender sends, until the toolstack has had enough of it.

        Raises Unavailable if the sender falls silent before: the launch lock is held meanwhile.
        """
        silent = 0.0
        while not ended():
            if select.select([self._hear], [], [], _LOOK)[0]:
                chunk = os.read(self._hear, CHUNK)
                if not chunk:
                    return
                yield chunk
                silent = 0.0
            elif (silent := silent + _LOOK) >= _PATIENCE:
                raise _broken()


def _broken() -> Unavailable:
    return Unavailable(
        "receive.broken-off", "the sender broke off the migration", "the VM goes on there")


# -- what a sender asks before -------------------------------------------------------------------


def incoming(agent: Agent) -> KeptVms:
    """What senders announced: configurations to start VMs from when they reboot here."""
    return KeptVms(agent.state, "incoming")


@dataclass(frozen=True, slots=True)
class Announcement:
    """A VM that is to come, as its sender describes it.

    ``passport`` and the ``challenge`` that it answers, if the VM's label is attested.
    """

    vm: str
    uuid: str
    label: str
    config: bytes | None
    actions: dict[str, str]
    passport: Passport | None = None
    challenge: bytes = b""

    def dumps(self) -> bytes:
        """One JSON document."""
        config = None if self.config is None else self.config.decode("latin-1")
        return json.dumps({"vm": self.vm, "uuid": self.uuid, "label": self.label,
                           "config": config, "actions": self.actions,
                           "passport": self.passport and self.passport.to_json(),
                           "challenge": self.challenge.hex()}).encode()

    @classmethod
    def loads(cls, data: bytes) -> Announcement:
        """Raises BadInput (``receive.announcement``)."""
        try:
            value = json.loads(data)
            words = [value["vm"], value["uuid"], value["label"], *value["actions"].values()]
            if not all(isinstance(word, str) for word in words):
                raise TypeError("words")
            config = value["config"]
            return cls(value["vm"], value["uuid"].lower(), value["label"],
                       None if config is None else config.encode("latin-1"), value["actions"],
                       Passport.from_json(value.get("passport")),
                       bytes.fromhex(value.get("challenge", "")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadInput(
                "receive.announcement", "the sender's announcement is not understood",
                "is it a `shype migrate` of the same version?") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a VM would be taken; ``passport`` proves to its sender who says so, if it is of an
    attested label."""

    decision: Decision
    passport: Passport | None = None

    def to_json(self) -> dict[str, object]:
        """What the sender reads."""
        return {**self.decision.to_json(), "passport": self.passport and self.passport.to_json()}


def answer(
    agent: Agent, announced: Announcement, peer: str = "unknown", lock_timeout: float = 30
) -> Answer:
    """Whether this host would take the VM now; asked again, of the VM itself, when it comes.

    What it answers ``peer`` is on record. Raises Unavailable if this host does not enforce.
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        require_enforcing(agent)
        vm = VmConfig(announced.vm, announced.uuid, None, None)
        label, decision = _answer(agent, vm, announced.label)
        shown = None
        if label is not None and decision.permitted and agent.policy.labels[label].attested:
            decision, shown = _prove(agent, announced, label, peer, decision)
        agent.record(Event(
            kind="receive.ask", vm=vm.name, subject=label, decision=decision,
            result=Result.PERMITTED if decision.permitted else Result.REFUSED,
            object=f"host:{peer}", deferrable=not decision.permitted,
            details={"uuid": vm.uuid, "claimed": announced.label}))
        if decision.permitted and label is not None:
            incoming(agent).put(Kept(
                vm.name, vm.uuid, label, announced.config, announced.actions))
            if shown is not None:
                peers.expect(agent, vm.uuid)
        return Answer(decision, shown)


def _prove(
    agent: Agent, announced: Announcement, label: LabelName, peer: str, decision: Decision
) -> tuple[Decision, Passport | None]:
    """Both hosts of an attested VM are trusted: this one, and the one that proves it."""
    refused = attested.refusal(agent, label)
    if refused is not None:
        return refused, None
    if not peers.answers(agent, announced.challenge):
        why = Reason("peer.other-challenge", "it does not answer a challenge of this host")
        return peers.refused(agent, label, peer, why), None
    found = peers.doubt(
        agent, announced.passport, Role.SENDER, announced.challenge, announced.uuid)
    if found is not None:
        return peers.refused(agent, label, peer, found), None
    assert announced.passport is not None  # else there is doubt
    return decision, peers.passport(
        agent, Role.RECEIVER, announced.passport.nonce, announced.uuid)


def _answer(agent: Agent, vm: VmConfig, claimed: str) -> tuple[LabelName | None, Decision]:
    named = label_for(vm, agent.policy, agent.manifest)
    if named.label is None:
        if named.refusal is None:
            raise ShypeError("label.none", f"{vm.name} has no label")
        return None, named.refusal
    if named.label != claimed:
        return named.label, mismatch(agent, vm.name, named.label, claimed)
    return named.label, agent.server.launch(
        named.label, running(residents(agent)), vectors.in_force(agent))
