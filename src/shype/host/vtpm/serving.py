"""A VM's TPM at the VM's start, and what becomes of it afterwards.

Before the VM is built its TPM is powered on and asked for its identity, which is measured; the VM
gets it while it is still paused, by a console that the device model serves on a socket. What holds
the TPM and the VM together is the record of its owner: UUID, label and identity must be the same.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.decision.decision import Decision
from shype.host import measured
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import Resident
from shype.host.hypervisor import Domain, VmConfig
from shype.host.ids import HostId
from shype.host.journal import boot_id
from shype.host.vtpm import commands, swtpm
from shype.host.vtpm.places import Owner, TpmPlaces
from shype.policy.model import Label
from shype.policy.names import LabelName

#: Seconds that the device model gets to listen.
_LISTENING = 10.0
_POLL = 0.05


@dataclass(slots=True)
class Powered:
    """A TPM that is on, and waits for its VM to be built."""

    owner: Owner
    channel: Path
    _places: TpmPlaces
    _served: swtpm.Served
    given: bool = False

    def give(self, domid: int) -> None:
        """Connect it with the VM, which is built and does not run yet.

        Raises Unavailable (``vtpm.failed``).
        """
        with _connected(self.owner, self.channel) as stream:
            swtpm.connect(self._places, self._served, stream)
        self.owner = self._places.change(self.owner, domid=domid, boot=boot_id(), lost=False)
        self._served.leave()
        self.given = True


def refusal(agent: Agent, vm: VmConfig, label: LabelName) -> Decision | None:
    """Why the VM does not get the TPM that is there under its UUID, if it is to have one.

    Raises Unavailable (``vtpm.damaged``).
    """
    wanted = agent.policy.labels[label]
    if not wanted.vtpm:
        return None
    owner = TpmPlaces(agent.state).get(vm.uuid)
    if owner is None or owner.label == label or _renamed(agent, owner, wanted):
        return None
    return Decision(
        False, HostId.VTPM_OWNER,
        f"{vm.name} may not start as {label}: the TPM of its UUID has been that of {owner.vm} with "
        f"the label {owner.label} (shype vtpm remove {vm.uuid} destroys it, with its keys).",
        (wanted.span,))


@contextlib.contextmanager
def powered(
    agent: Agent, vm: VmConfig, label: LabelName, *, configured: bool
) -> Iterator[Powered | None]:
    """The VM's TPM, on and measured; None if its label has none. Off again unless it was given.

    ``configured``: the VM comes from the configuration that is prepared, and must have its UUID
    from there. Hold the launch lock; after `refusal`. Raises BadInput (``vtpm.uuid``),
    Unavailable: ``vtpm.*``, ``state.unwritable``, and what measuring raises.
    """
    wanted = agent.policy.labels[label]
    if not wanted.vtpm:
        yield None
        return
    swtpm.require()
    if configured:
        _require_uuid(agent, vm)
    places = TpmPlaces(agent.state)
    places.require_private()
    owner = places.get(vm.uuid) or places.new(vm.name, vm.uuid, label)
    if _renamed(agent, owner, wanted):
        owner = places.change(owner, label=label)
    swtpm.stop(places, owner)  # left by a VM that is gone: this one is not running
    places.require_whole(owner)
    served = swtpm.start(places, owner)
    tpm = Powered(owner, places.channel(owner), places, served)
    try:
        tpm.owner = _identified(places, owner, served)
        _record(agent, tpm.owner, new=not owner.ek)
        measured.tpm(agent, vm, label, tpm.owner.ek)
        yield tpm
    finally:
        if not tpm.given:
            served.end()


def given(agent: Agent, domain: Domain) -> bool:
    """Whether the domain was given a TPM when it was started, served still or not.

    Raises Unavailable (``vtpm.damaged``): it may have been.
    """
    owner = TpmPlaces(agent.state).get(domain.uuid)
    return owner is not None and (owner.domid, owner.boot) == (domain.domid, boot_id())


def follow(agent: Agent, found: Sequence[Resident]) -> tuple[Owner, ...]:
    """End what serves VMs that are gone; which TPMs were lost since the last time.

    ``found``: who runs. A TPM does not end with its VM, but here: one that has ended before was
    lost. Hold the launch lock. Nothing here keeps anything else from being done.
    """
    places = TpmPlaces(agent.state)
    live = {one.domain.uuid: one.domain.domid for one in found if not one.domain.dying}
    lost = []
    for owner in places.all():
        given = owner.domid >= 0 and owner.boot == boot_id()
        with contextlib.suppress(Unavailable):  # damaged: told when somebody wants it
            if given and not owner.lost and not swtpm.serves(places, owner):
                owner = places.change(owner, lost=True)
                lost.append(owner)
            if not given or live.get(owner.uuid) != owner.domid:
                swtpm.stop(places, owner)
                places.channel(owner).unlink(missing_ok=True)
                if owner.domid >= 0:
                    places.change(owner, domid=-1)
    for owner in lost:
        agent.record(Event(
            kind="vtpm.lost", result=Result.FAILED, vm=owner.vm, domid=owner.domid,
            subject=owner.label, error="vtpm.lost", deferrable=True,
            message="what served the VM's TPM has ended; the VM has none until it is started anew",
            details={"uuid": owner.uuid, "ek": owner.ek}))
    return tuple(lost)


def _require_uuid(agent: Agent, vm: VmConfig) -> None:
    """The UUID is in the configuration: read again, it would be another otherwise."""
    if not vm.uuid or agent.hypervisor.read_config(agent.prepared).uuid != vm.uuid:
        line = f': uuid = "{vm.uuid}"' if vm.uuid else ""
        raise BadInput(
            "vtpm.uuid", f"the configuration of {vm.name} has no UUID, so the VM would have "
            "another TPM at each start", f"add a line to it{line}")


def _identified(places: TpmPlaces, owner: Owner, served: swtpm.Served) -> Owner:
    try:
        with swtpm.asked(served) as tpm:
            ek = commands.identity(commands.ek_public(tpm))
            commands.close_platform(tpm)
    except commands.TpmError as error:
        raise served.failed(str(error)) from error
    if not owner.ek:
        return places.change(owner, ek=ek)
    if owner.ek != ek:
        raise Unavailable(
            "vtpm.other-tpm", f"what is in the place of {owner.vm}'s TPM is another TPM: its "
            f"identity is {ek[:16]}, and was {owner.ek[:16]}",
            f"restore it from a backup; or shype vtpm remove {owner.uuid}, and the VM gets a new "
            "one")
    return owner


def _renamed(agent: Agent, owner: Owner, label: Label) -> bool:
    """Whether the policy itself says that the label is the owner's, by another name."""
    return label.was is not None and label.was == owner.label != label.name and (
        owner.label not in agent.policy.labels)


@contextlib.contextmanager
def _connected(owner: Owner, channel: Path) -> Iterator[socket.socket]:
    deadline = time.monotonic() + _LISTENING
    with socket.socket(socket.AF_UNIX) as stream:
        while True:
            try:
                stream.connect(str(channel))
                break
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if time.monotonic() > deadline:
                    raise swtpm.failed(
                        owner, f"the VM's device model does not listen at {channel}") from error
                time.sleep(_POLL)
            except OSError as error:
                raise swtpm.failed(owner, f"{channel}: {error}") from error
        yield stream


def _record(agent: Agent, owner: Owner, *, new: bool) -> None:
    agent.record(Event(
        kind="vtpm", result=Result.PERMITTED, vm=owner.vm, subject=owner.label,
        details={"uuid": owner.uuid, "ek": owner.ek, "new": new}))
