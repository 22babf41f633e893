"""Launch a VM through the launch window, so that it is safe to die at every step.

docs/explanation/launch.md has the state machine and what holds after a kill at each step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.decision.decision import Decision
from shype.host import caps, guardian, measured, quota, vectors
from shype.host.agent import Agent
from shype.host.attestation import gate as attested
from shype.host.census import Resident, residents, running, wall_values
from shype.host.denials import explain_creation, since
from shype.host.ended import Followed, follow_up
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import CreateFailed, Domain, VmConfig
from shype.host.journal import Reservation, reservation
from shype.host.kept import Kept
from shype.host.labeling import Labelling, label_for
from shype.host.launch_events import LaunchEvents
from shype.host.launch_limits import label_changed, require_new
from shype.host.lock import unwritable
from shype.host.network import mediation
from shype.host.recovery import Recovery, recover
from shype.host.resources.backend import require
from shype.host.resources.grant import Granted, grant
from shype.host.store import audit as store_audit
from shype.host.vtpm import serving
from shype.host.vtpm.serving import Powered
from shype.policy.names import LabelName

#: Largest VM configuration, bytes.
MAX_CONFIG = 1024 * 1024


class Step(StrEnum):
    """What has just been completed."""

    LOCKED = "locked"
    RECOVERED = "recovered"
    CHECKED = "checked"
    LABELLED = "labelled"
    DECIDED = "decided"
    PREPARED = "prepared"
    GUARDED = "guarded"
    RESERVED = "reserved"
    OPENED = "opened"
    CREATED = "created"
    CLOSED = "closed"
    VERIFIED = "verified"
    KEPT = "kept"
    UNPAUSED = "unpaused"
    DONE = "done"


#: Told of every step as it completes.
Observer = Callable[[Step], None]


class Source(StrEnum):
    """Who decided."""

    AGENT = "agent"
    HYPERVISOR = "hypervisor"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a launch ended, unless in an error. ``domid`` is None if it was refused."""

    vm: str
    label: LabelName | None
    decision: Decision
    source: Source
    domid: int | None = None
    notices: tuple[str, ...] = ()


class LaunchFailed(ShypeError):
    """A launch that was permitted went wrong; window closed, nothing left behind."""


@dataclass(frozen=True, slots=True)
class Request:
    """A VM to make, however the toolstack comes to its domain.

    ``prepare`` gets the security context, and the socket of a console for the VM's TPM if it has
    one, and writes what ``build`` then has built, paused.
    ``build`` may close the launch window as soon as there is a domain, by the function it gets
    (which does nothing for a locked label).
    ``check`` is asked before the VM runs, and raises if it must not.  ``config`` is what it can
    be started from again; ``before`` what was kept of it when it ended.  ``found`` is who runs, if
    that was asked a moment ago.
    """

    vm: VmConfig
    labelling: Labelling
    config: bytes | None
    prepare: Callable[[str, Path | None], None]
    build: Callable[[Callable[[], None]], None]
    check: Callable[[], None] = lambda: None
    before: Kept | None = None
    found: tuple[Resident, ...] | None = None


def launch(
    agent: Agent, config: Path, *, observer: Observer = lambda step: None, lock_timeout: float = 30,
) -> Outcome:
    """Start the VM of the configuration file ``config``.

    A refusal by the policy is an `Outcome`. Raises ShypeError otherwise: then
    the window is closed and no new domain is left; or, if recovery itself
    failed, the journal stays and every later command tries again.
    """
    def begun() -> Request:
        return _request(agent, text, None, ready(agent, observer))

    with told(LaunchEvents(agent, f"config:{config}")) as tell:
        text = _read(config)
        with agent.lock.hold(lock_timeout):
            return tell(begun, observer)


@contextlib.contextmanager
def told(events: LaunchEvents) -> Iterator[Callable[[Callable[[], Request], Observer], Outcome]]:
    """A function that makes what is requested, with all of it told to ``events``."""
    def tell(begin: Callable[[], Request], observer: Observer) -> Outcome:
        try:
            outcome = make(events.agent, begin(), observer, events)
        finally:
            events.agent.discard_prepared()
        if outcome.domid is None:
            events.refused(outcome.decision, outcome.source)
        else:
            events.done(outcome.domid)
        return outcome

    try:
        yield tell
    except BaseException as error:
        events.failed(error)
        raise


def ready(agent: Agent, observer: Observer) -> tuple[Resident, ...] | None:
    """The state is up to date, and the host enforces; who runs, if that has just been asked.

    Hold the lock. Raises Unavailable.
    """
    observer(Step.LOCKED)
    recovery, followed = catch_up(agent)
    observer(Step.RECOVERED)
    require_enforcing(agent)
    observer(Step.CHECKED)
    return None if followed else recovery.found


def catch_up(agent: Agent) -> tuple[Recovery, tuple[Followed, ...]]:
    """Bring the host's state up to date: what a killed launch left, and guests that have ended.

    Hold the launch lock. Every command that changes the host begins with it.
    """
    done = recover(agent)
    followed = follow_up(agent, lambda kept: _again(agent, kept), done.found)
    if agent.journal.path.exists():  # a start failed and could not be cleaned up
        recover(agent)
    return done, followed


def _again(agent: Agent, kept: Kept) -> int | Decision:
    def begun() -> Request:
        require_enforcing(agent)
        return _request(agent, kept.config or b"", kept)

    with told(LaunchEvents(agent, f"vm:{kept.vm}", "restart")) as tell:
        outcome = tell(begun, lambda step: None)
    return outcome.decision if outcome.domid is None else outcome.domid


def _request(
    agent: Agent, text: bytes, before: Kept | None, found: tuple[Resident, ...] | None = None
) -> Request:
    vm = _parse(agent, text)
    if before is not None:
        vm = replace(vm, uuid=before.uuid)
    named = label_for(vm, agent.policy, agent.manifest)
    if before is not None and named.label not in (None, before.label):
        named = Labelling(None, label_changed(agent, vm, before.label, named.label))

    def prepare(context: str, channel: Path | None) -> None:
        agent.hypervisor.prepare(text, agent.prepared, vm=vm, seclabel=context, channel=channel)

    return Request(
        vm, named, text, prepare, lambda close: agent.hypervisor.create_paused(agent.prepared),
        before=before, found=found,
    )


def make(agent: Agent, request: Request, observer: Observer, events: LaunchEvents) -> Outcome:
    """Make the VM of ``request``, unless the policy refuses. Hold the lock, after `catch_up`."""
    vm, named = request.vm, request.labelling
    events.vm, events.label = vm, named.label
    observer(Step.LABELLED)
    if named.label is None:
        return _refused(vm, named)
    found = residents(agent) if request.found is None else request.found
    require_new(vm, found)
    decision = agent.server.launch(named.label, running(found), vectors.in_force(agent))
    observer(Step.DECIDED)
    if decision.permitted:
        decision = attested.refusal(agent, named.label) or serving.refusal(
            agent, vm, named.label) or decision
    if not decision.permitted:
        return Outcome(vm.name, named.label, decision, Source.AGENT, notices=named.notices)
    full = quota.refusal(agent, vm, named.label, found)
    if full is not None:
        return Outcome(vm.name, named.label, full, Source.AGENT, notices=named.notices)
    granted = grant(agent, vm.name, named.label, vm.devices.all)
    if granted.refusal is not None:
        notices = named.notices + tuple(one.decision.sentence for one in granted.refused[1:])
        return Outcome(vm.name, named.label, granted.refusal, Source.AGENT, notices=notices)
    events.permitted(decision)
    measured.launch(agent, vm, named.label)
    fresh = request.before is None and request.config is not None
    with serving.powered(agent, vm, named.label, configured=fresh) as tpm:
        return _permitted(agent, request, named, decision, granted, found, tpm, observer, events)


def _permitted(
    agent: Agent, request: Request, named: Labelling, decision: Decision, granted: Granted,
    found: tuple[Resident, ...], tpm: Powered | None, observer: Observer, events: LaunchEvents,
) -> Outcome:
    vm, label = request.vm, named.label
    assert label is not None
    context = agent.manifest.labels[label].context
    try:
        request.prepare(context, None if tpm is None else tpm.channel)
    except OSError as error:
        raise unwritable(agent.state, error) from error
    observer(Step.PREPARED)
    guardian.post(agent)
    observer(Step.GUARDED)
    before = tuple(r.domain.domid for r in found)
    record = reservation(vm.name, vm.uuid, label, context, before)
    heard = agent.hypervisor.denials()
    agent.journal.reserve(record)
    try:
        observer(Step.RESERVED)
        domid = _build(agent, request, record, granted, tpm, observer, events)
    except BaseException as error:
        refusal = _refusal(agent, record, heard) if isinstance(error, CreateFailed) else None
        _clean_up(agent, error)
        if refusal is None:
            raise
        return Outcome(vm.name, label, refusal, Source.HYPERVISOR, notices=named.notices)
    return Outcome(vm.name, label, decision, Source.AGENT, domid, named.notices)


def _build(
    agent: Agent, request: Request, record: Reservation, granted: Granted, tpm: Powered | None,
    observer: Observer, events: LaunchEvents,
) -> int:
    manifest, hypervisor = agent.manifest, agent.hypervisor
    found = residents(agent)
    own = agent.policy.labels[record.label].members
    wall = wall_values(agent, found) | {manifest.booleans.running[m]: True for m in own}
    wall |= vectors.bits(agent)
    opening, closing = (manifest.window_values(label) | wall for label in (record.label, None))
    events.opening(opening)
    hypervisor.set_booleans(opening)
    observer(Step.OPENED)
    window = [closing]

    def close() -> None:
        if window:
            hypervisor.set_booleans(window.pop())
            events.closed(closing)

    locked = agent.policy.labels[record.label].locked  # then only the window lets dom0 fill it
    try:
        request.build((lambda: None) if locked else close)
        observer(Step.CREATED)
    finally:
        close()
    observer(Step.CLOSED)
    made = residents(agent)
    domid = _verify(record, tuple(resident.domain for resident in made))
    if granted.judged:  # what the backends got, before the guest can use it
        require(hypervisor.backends(), domid, granted.judged)
    observer(Step.VERIFIED)
    store_audit.admit(agent, made, fresh=domid)
    kept = _kept(request, record.label, domid)
    agent.kept.put(kept)
    observer(Step.KEPT)
    caps.apply(agent, domid, record.label)
    request.check()
    if tpm is not None:
        tpm.give(domid)
    mediation.domain_up(agent, domid)
    hypervisor.unpause(domid)
    observer(Step.UNPAUSED)
    agent.discard_prepared()
    agent.journal.finish()
    observer(Step.DONE)
    _forget_others(agent, kept, made)
    return domid


def _kept(request: Request, label: LabelName, domid: int) -> Kept:
    vm, before = request.vm, request.before
    fresh = Kept(vm.name, vm.uuid, label, request.config, dict(vm.actions), domid,
                 vcpus=vm.vcpus, memory=vm.memory, nics=quota.nics(vm))
    # Owed until the launch counts: one that is killed before has not been a start.
    return fresh if before is None else replace(fresh, again=True, starts=before.starts)


def _forget_others(agent: Agent, kept: Kept, found: tuple[Resident, ...]) -> None:
    if kept.again:
        agent.kept.change(kept, again=False)
    live = {resident.domain.uuid for resident in found}
    for other in agent.kept.all():
        if other.vm == kept.vm and other.uuid not in live:
            agent.kept.forget(other.uuid)  # it was waiting; somebody has started it by hand


def _verify(record: Reservation, domains: tuple[Domain, ...]) -> int:
    """Exactly one domain appeared, and it is what was asked for."""
    new = [d for d in domains if d.domid not in record.before]
    if len(new) == 1:
        made = new[0]
        expected = Domain(made.domid, record.vm, record.context, paused=True, dying=False,
                          uuid=record.uuid)
        if made == expected:
            return made.domid
    listing = ", ".join(f"domain {d.domid} ({d.name}, {d.context})" for d in new) or "no domain"
    raise LaunchFailed(
        "launch.unexpected",
        f"the toolstack should have made one paused domain {record.vm} with the context "
        f"{record.context}, but there appeared: {listing}",
        "someone in dom0 may have used the launch window; what carried that label was destroyed",
    )


def _refusal(agent: Agent, record: Reservation, heard: tuple[str, ...]) -> Decision | None:
    """The hypervisor's own denial of this creation, if that is why the toolstack failed."""
    lines = since(heard, agent.hypervisor.denials())
    return explain_creation(agent, lines, record.context)


def _clean_up(agent: Agent, error: BaseException) -> None:
    if not agent.journal.path.exists():
        return  # finished: the failure came after the launch was over
    try:
        recover(agent)
    except Exception as second:  # noqa: BLE001 - the first error must be told, too
        raise LaunchFailed(
            "launch.unclean",
            f"the launch failed ({error}), and cleaning up after it failed ({second})",
            "run `shype recover`",
        ) from error


def _refused(vm: VmConfig, named: Labelling) -> Outcome:
    if named.refusal is None:
        raise Unavailable("label.none", f"{vm.name} has no label")
    return Outcome(vm.name, None, named.refusal, Source.AGENT, notices=named.notices)


def _read(config: Path) -> bytes:
    """The whole text, once: what is checked is what is built."""
    try:
        text = read_regular(config, MAX_CONFIG)
    except OSError as error:
        raise BadInput("config.unreadable", f"cannot read {config}: {error.strerror}") from error
    if len(text) > MAX_CONFIG or b"\0" in text:
        raise BadInput("config.invalid", f"{config} is no VM configuration: too large or binary")
    return text


def _parse(agent: Agent, text: bytes) -> VmConfig:
    try:
        write_atomic(agent.prepared, text, 0o600)
    except OSError as error:
        raise unwritable(agent.state, error) from error
    return agent.hypervisor.read_config(agent.prepared)
