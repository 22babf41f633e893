"""What a VM shows with the TPM that its host gave it: guest quote, vTPM, host quote, policy.

A VM's TPM is software that its host runs, so its word is worth what the host is worth. Three links:
the *guest*: a fresh quote by a key that is in the TPM with the identity E; the *TPM*: the host has
measured that it gave the TPM E to a VM with a label; the *host*: a fresh quote of those
measurements, trusted by the reference values, under a policy that says what the label means.
A link that does not hold is a reason, not an exception, and nothing holds by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shype.attest import evidence
from shype.attest.host_events import HostEvent, Kind
from shype.attest.verifier import Verifier
from shype.base.errors import BadInput
from shype.host.attest_result import AttestedPolicy, Reason, Verdict

_Breaks = Callable[["Link", str, str], None]


class Link(StrEnum):
    """A link of the chain."""

    GUEST = "guest"
    TPM = "tpm"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Broken:
    """Where the chain does not hold, and why."""

    link: Link
    reason: Reason

    def __str__(self) -> str:
        return f"{self.link}: {self.reason.message} [{self.reason.id}]"


@dataclass(frozen=True, slots=True)
class Chain:
    """What was shown.

    ``guest`` and ``host``: the names under which the verifier knows them, None if it does not.
    ``ek``: the identity of the guest's TPM; ``pcrs``: that TPM's registers, which say what
    the guest has measured of itself. ``vm``, ``uuid`` and ``label``: as the host has measured
    them. ``policy`` is in force on the host, by name, version and digest. Only of a chain that
    `holds` is any of this true.
    """

    broken: tuple[Broken, ...]
    guest: str | None = None
    ek: str | None = None
    pcrs: Mapping[int, bytes] = field(default_factory=dict)
    host: str | None = None
    vm: str | None = None
    uuid: str | None = None
    label: str | None = None
    policy: AttestedPolicy | None = None

    @property
    def holds(self) -> bool:
        """Whether every link does, up to a policy."""
        return not self.broken and None not in (self.ek, self.label, self.host, self.policy)

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype attest chain --json``."""
        return {
            "holds": self.holds, "guest": self.guest, "ek": self.ek, "host": self.host,
            "vm": self.vm, "uuid": self.uuid, "label": self.label,
            "pcrs": {str(pcr): value.hex() for pcr, value in self.pcrs.items()},
            "policy": self.policy and self.policy.to_json(),
            "broken": [{"link": str(one.link), "id": one.reason.id,
                        "message": one.reason.message} for one in self.broken],
        }


def follow(
    verifier: Verifier, guest: bytes, host: bytes, *, label: str | None = None
) -> Chain:
    """What the evidence of a ``guest`` and of its ``host`` show together.

    Both answer challenges of this ``verifier``, and both are enrolled there; the host is
    appraised as by `Verifier.appraise`, and remembered. ``label``: what the guest must carry, None
    if any will do. Raises Unavailable, and BadInput (``reference.*``) for a verifier that has
    nothing to compare the host with, ``chain.swapped`` if it has for the guest; then no challenge
    has been used up.
    """
    _require_order(verifier, guest, host)
    broken: list[Broken] = []
    found: dict[str, object] = {}

    def breaks(link: Link, id: str, message: str) -> None:
        broken.append(Broken(link, Reason(id, message)))

    try:
        taken = verifier.take(guest)
        if isinstance(taken, Reason):
            broken.append(Broken(Link.GUEST, taken))
        else:
            known, shown = taken
            found.update(guest=known.name, ek=known.ek_id, pcrs=shown.pcrs)
    except BadInput as error:
        breaks(Link.GUEST, error.id, error.message)
    events: Sequence[HostEvent] = ()
    try:
        result, _, appraisal = verifier.appraise(host)
        found.update(host=result.host, policy=appraisal.policy)
        for reason in appraisal.reasons:
            broken.append(Broken(Link.HOST, reason))
        if appraisal.verdict is not Verdict.TRUSTED and not appraisal.reasons:
            breaks(Link.HOST, "chain.host", f"the host is {appraisal.verdict}")
        events = appraisal.events
    except BadInput as error:
        if error.id.startswith("reference."):
            raise
        breaks(Link.HOST, error.id, error.message)
    if "ek" in found:
        given = _given(events, str(found["ek"]), breaks)
        if given is not None:
            found.update({key: given.values[key] for key in ("vm", "uuid", "label")})
            if label is not None and given.values["label"] != label:
                breaks(Link.TPM, "chain.label", f"the VM carries {given.values['label']}, and not "
                       f"{label}")
    return Chain(tuple(broken), **found)  # type: ignore[arg-type]


def _require_order(verifier: Verifier, guest: bytes, host: bytes) -> None:
    try:
        of_host = verifier.registry.find(evidence.loads(host).attester)
    except BadInput:
        return  # that is a link which does not hold
    try:
        verifier.references(of_host)
    except BadInput as missing:
        if missing.id not in ("reference.missing", "reference.vm"):
            raise
        try:
            of_guest = verifier.registry.find(evidence.loads(guest).attester)
            verifier.references(of_guest)
        except BadInput:
            raise missing from None
        raise BadInput(
            "chain.swapped", f"the host's evidence is of {of_host.name}, for which there are no "
            f"reference values, and the guest's of {of_guest.name}, for which there are",
            f"give them the other way round: --guest for {of_host.name}, --host for "
            f"{of_guest.name}",
        ) from missing


def _given(
    events: Sequence[HostEvent], ek: str, breaks: _Breaks
) -> HostEvent | None:
    """The event by which the host gave the TPM ``ek`` to a VM, in this boot."""
    numbered = [(number, event) for number, event in enumerate(events) if event.kind is Kind.TPM]
    mine = [(number, event) for number, event in numbered if event.values["ek"] == ek]
    if not mine:
        breaks(Link.TPM, "chain.no-tpm", "the host has not measured that it gave this TPM to a VM: "
               "it is another host's, or no VM's")
        return None
    number, last = mine[-1]
    whose = {(event.values["uuid"], event.values["label"]) for _, event in mine}
    if len(whose) > 1:
        breaks(Link.TPM, "chain.two-owners", "the host has given this TPM to VMs of different UUID "
               "or label")
        return None
    others = [event for at, event in numbered
              if event.values["uuid"] == last.values["uuid"] and at > number]
    if others:
        breaks(Link.TPM, "chain.replaced", f"{last.values['vm']} has got another TPM since")
        return None
    if not any(event.kind is Kind.LAUNCH and event.values["label"] == last.values["label"]
               for event in events[:number]):
        breaks(Link.TPM, "chain.no-launch", "the host has measured no start of a VM with the label "
               f"{last.values['label']} before it gave the TPM away")
        return None
    return last
