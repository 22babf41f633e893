"""The host's TPMs of VMs: what there is, and how one is removed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.hypervisor import Domain
from shype.host.journal import boot_id
from shype.host.vtpm import swtpm
from shype.host.vtpm.places import Owner, TpmPlaces, damaged


class State(StrEnum):
    """How a TPM is."""

    KEPT = "kept"  # its VM does not run
    SERVED = "served"
    LOST = "lost"  # its VM runs, and has lost it
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Tpm:
    """One TPM; ``error`` says why it is damaged, and ``owner`` whose it is if that is known."""

    uuid: str
    state: State
    owner: Owner | None = None
    error: ShypeError | None = None

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype vtpm list --json``."""
        owner = self.owner
        return {
            "uuid": self.uuid, "state": str(self.state), "vm": owner and owner.vm,
            "label": owner and owner.label, "ek": owner and owner.ek,
            "created": owner and owner.created,
            "error": self.error.to_json() if self.error else None,
        }


def tpms(agent: Agent) -> tuple[Tpm, ...]:
    """All TPMs, by UUID; also of VMs that run and are to have one, if nothing is left of it."""
    places = TpmPlaces(agent.state)
    running = [domain for domain in agent.hypervisor.domains() if not domain.dying]
    live = {domain.uuid: domain.domid for domain in running}
    found = {uuid: _one(places, uuid, live) for uuid in places.uuids()}
    for domain in running:
        if domain.uuid not in found and _is_to_have_one(agent, domain):
            found[domain.uuid] = Tpm(domain.uuid, State.DAMAGED, error=damaged(
                f"{domain.name} runs, and {places.directory} knows of no TPM of it"))
    return tuple(found[uuid] for uuid in sorted(found))


def _is_to_have_one(agent: Agent, domain: Domain) -> bool:
    label = agent.manifest.label_of_context(domain.context)
    known = None if label is None else agent.policy.labels.get(label)
    return known is not None and known.vtpm


def _one(places: TpmPlaces, uuid: str, live: dict[str, int]) -> Tpm:
    owner = None
    try:
        owner = places.get(uuid)
        if owner is None:
            return Tpm(uuid, State.KEPT)
        places.require_private()
        places.require_whole(owner)
        served = swtpm.serves(places, owner)
    except Unavailable as error:
        return Tpm(uuid, State.DAMAGED, owner, error)
    if live.get(uuid) == owner.domid >= 0 and owner.boot == boot_id():
        return Tpm(uuid, State.SERVED if served else State.LOST, owner)
    return Tpm(uuid, State.KEPT, owner)


def remove(agent: Agent, which: str, lock_timeout: float = 30) -> str:
    """Destroy the TPM of a VM (its UUID, or its name if only one TPM was a VM's of that name).

    Returns the UUID. Raises BadInput: ``vtpm.unknown``, ``vtpm.ambiguous``, ``vtpm.in-use``;
    Unavailable.
    """
    places = TpmPlaces(agent.state)
    with agent.lock.hold(lock_timeout):
        uuid, owner = removable(agent, which)
        agent.record(Event(
            kind="vtpm.remove", result=Result.PERMITTED, vm=owner.vm if owner else None,
            subject=owner.label if owner else None,
            details={"uuid": uuid, "ek": owner.ek if owner else ""}))
        if owner is not None:
            try:
                swtpm.stop(places, owner)
            except Unavailable as error:
                if error.id != "vtpm.damaged":
                    raise
        places.remove(uuid)
        return uuid


def removable(agent: Agent, which: str) -> tuple[str, Owner | None]:
    """The UUID of the TPM that `remove` would destroy, and whose it is if that is known.

    Raises BadInput as `remove` does.
    """
    places = TpmPlaces(agent.state)
    uuid = _named(places, which)
    domain = next((d for d in agent.hypervisor.domains() if d.uuid == uuid), None)
    if domain is not None:
        raise BadInput("vtpm.in-use", f"{domain.name} runs (domain {domain.domid}), and "
                       "its TPM with it", f"shype stop {domain.name}")
    return uuid, next((owner for owner in places.all() if owner.uuid == uuid), None)


def _named(places: TpmPlaces, which: str) -> str:
    if which in places.uuids():
        return which
    found = [owner.uuid for owner in places.all() if owner.vm == which]
    if not found:
        raise BadInput("vtpm.unknown", f"there is no TPM of {which!r}", "shype vtpm list")
    if len(found) > 1:
        raise BadInput("vtpm.ambiguous", f"several TPMs were of VMs named {which}",
                       f"give one of their UUIDs: {', '.join(found)}")
    return found[0]
