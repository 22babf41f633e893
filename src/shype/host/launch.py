"""Launch a VM through the launch window, so that it is safe to die at every step.

docs/explanation/launch.md has the state machine and what holds after a kill at each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.decision.decision import Decision
from shype.host import guardian
from shype.host.agent import Agent
from shype.host.census import DOM0, residents, running, wall_values
from shype.host.denials import explain_creation, since
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import CreateFailed, Domain, VmConfig
from shype.host.journal import Reservation, reservation
from shype.host.labeling import Labelling, label_for
from shype.host.launch_events import LaunchEvents
from shype.host.lock import unwritable
from shype.host.recovery import recover
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


def launch(
    agent: Agent, config: Path, *, observer: Observer = lambda step: None, lock_timeout: float = 30,
) -> Outcome:
    """Start the VM of the configuration file ``config``.

    A refusal by the policy is an `Outcome`. Raises ShypeError otherwise: then
    the window is closed and no new domain is left; or, if recovery itself
    failed, the journal stays and every later command tries again.
    """
    events = LaunchEvents(agent, config)
    try:
        text = _read(config)
        with agent.lock.hold(lock_timeout):
            observer(Step.LOCKED)
            recover(agent)
            observer(Step.RECOVERED)
            require_enforcing(agent)
            observer(Step.CHECKED)
            try:
                outcome = _locked(agent, text, observer, events)
            finally:
                agent.discard_prepared()
            if outcome.domid is None:
                events.refused(outcome.decision, outcome.source)
            else:
                events.done(outcome.domid)
            return outcome
    except BaseException as error:
        events.failed(error)
        raise


def _locked(agent: Agent, text: bytes, observer: Observer, events: LaunchEvents) -> Outcome:
    events.vm = vm = _parse(agent, text)
    named = label_for(vm, agent.policy, agent.manifest)
    events.label = named.label
    observer(Step.LABELLED)
    if named.label is None:
        return _refused(vm, named)
    found = residents(agent)
    twin = next((r.domain for r in found if r.domain.name == vm.name), None)
    if twin is not None and twin.domid == DOM0:
        raise BadInput(
            "vm.dom0", f"{vm.name} is the name of dom0 itself", "give this VM another name")
    if twin is not None:
        raise BadInput(
            "vm.running", f"{vm.name} runs already, as domain {twin.domid}",
            f"shype stop {vm.name}, or give this VM another name",
        )
    decision = agent.server.launch(named.label, running(found))
    observer(Step.DECIDED)
    if not decision.permitted:
        return Outcome(vm.name, named.label, decision, Source.AGENT, notices=named.notices)
    events.permitted(decision)
    context = agent.manifest.labels[named.label].context
    try:
        agent.hypervisor.prepare(text, agent.prepared, vm=vm, seclabel=context)
    except OSError as error:
        raise unwritable(agent.state, error) from error
    observer(Step.PREPARED)
    guardian.post(agent)
    observer(Step.GUARDED)
    before = tuple(r.domain.domid for r in found)
    record = reservation(vm.name, vm.uuid, named.label, context, before)
    heard = agent.hypervisor.denials()
    agent.journal.reserve(record)
    try:
        observer(Step.RESERVED)
        domid = _build(agent, record, observer, events)
    except BaseException as error:
        refusal = _refusal(agent, record, heard) if isinstance(error, CreateFailed) else None
        _clean_up(agent, error)
        if refusal is None:
            raise
        return Outcome(vm.name, named.label, refusal, Source.HYPERVISOR, notices=named.notices)
    return Outcome(vm.name, named.label, decision, Source.AGENT, domid, named.notices)


def _build(
    agent: Agent, record: Reservation, observer: Observer, events: LaunchEvents,
) -> int:
    manifest, hypervisor = agent.manifest, agent.hypervisor
    found = residents(agent)
    own = agent.policy.labels[record.label].members
    wall = wall_values(agent, found) | {manifest.booleans.running[m]: True for m in own}
    opening, closing = (manifest.window_values(label) | wall for label in (record.label, None))
    events.opening(opening)
    hypervisor.set_booleans(opening)
    observer(Step.OPENED)
    try:
        hypervisor.create_paused(agent.prepared)
        observer(Step.CREATED)
    finally:
        hypervisor.set_booleans(closing)
    observer(Step.CLOSED)
    events.closed(closing)
    domid = _verify(record, hypervisor.domains())
    observer(Step.VERIFIED)
    hypervisor.unpause(domid)
    observer(Step.UNPAUSED)
    agent.discard_prepared()
    agent.journal.finish()
    observer(Step.DONE)
    return domid


def _verify(record: Reservation, domains: tuple[Domain, ...]) -> int:
    """Exactly one domain appeared, and it is what was asked for."""
    new = [d for d in domains if d.domid not in record.before]
    if len(new) == 1:
        made = new[0]
        expected = Domain(made.domid, record.vm, record.context, paused=True, dying=False)
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
