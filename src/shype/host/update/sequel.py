"""What a new policy's own choices do to VMs that run, beyond flows that it ends.

No reason to refuse an update, but to think about it: somebody who is asked whether to apply it must
have seen them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shype.decision.wording import listed, printable
from shype.host import quota
from shype.host.agent import Agent
from shype.host.attestation import losses
from shype.host.census import DOM0, Resident, residents
from shype.policy.model import Label, Lost, Policy
from shype.policy.names import LabelName
from shype.policy.quotas import show


class SequelId(StrEnum):
    """What follows. Stable: programs may match on the values."""

    UNTRUSTED = "apply.untrusted"
    OVER_QUOTA = "apply.over-quota"
    NO_TPM = "apply.no-tpm"


@dataclass(frozen=True, slots=True)
class Sequel:
    """One thing that follows for ``vms`` (domain id, name), and what to do about it."""

    id: SequelId
    vms: tuple[tuple[int, str], ...]
    sentence: str
    fix: str

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype apply --json``."""
        return {"id": str(self.id), "vms": [{"domid": domid, "vm": vm} for domid, vm in self.vms],
                "sentence": self.sentence, "fix": self.fix}


#: By the next look of `shype watch`.
_DONE = {Lost.KEEP: "noticed and left running", Lost.PAUSE: "paused",
         Lost.EVACUATE: "moved to another host, or paused"}


def sequels(old: Agent, new: Agent, expected: dict[int, LabelName]) -> tuple[Sequel, ...]:
    """What the policy of ``new`` does to those who run under ``old``; ``expected`` is what each
    carries then, by domain id. Hold the launch lock. Raises Unavailable."""
    before = [r for r in residents(old) if r.domain.domid != DOM0]
    found = [Resident(r.domain, expected.get(r.domain.domid)) for r in before]
    return (*_untrusted(new, found), *_over_quota(old, new, before, found),
            *_no_tpm(old, new, before, found))


def _untrusted(new: Agent, found: Sequence[Resident]) -> Iterator[Sequel]:
    section = new.policy.attestation
    affected = [r for r in found if (of := _label(new.policy, r.label)) and of.attested]
    if section is None or not affected:
        return
    why = losses.lost(new)
    if why is not None:
        yield Sequel(
            SequelId.UNTRUSTED, _vms(affected),
            f"{_names(affected)} will be {_DONE[section.lost]} by the next look of shype watch: "
            f"attested labels, and {why.message} [{why.id}]",
            "have the host trusted first, by this policy's verifiers (shype attest enrol, renew)")


def _over_quota(
    old: Agent, new: Agent, before: Sequence[Resident], found: Sequence[Resident]
) -> Iterator[Sequel]:
    was = {(taken.whose, amount) for taken in quota.taken(old, before)
           for amount, _, _ in taken.over()}
    for taken in quota.taken(new, found):
        for amount, held, most in taken.over():
            if (taken.whose, amount) in was:
                continue
            names = {one.vm for one in taken.holders if one.amounts[amount]}
            yield Sequel(
                SequelId.OVER_QUOTA, _vms([r for r in found if r.domain.name in names]),
                f"{taken.whose} would have {show(amount, held)} of {show(amount, most)}: those "
                "who run go on, and nobody else starts",
                "raise the quota, or stop some of them first")


def _no_tpm(
    old: Agent, new: Agent, before: Sequence[Resident], found: Sequence[Resident]
) -> Iterator[Sequel]:
    def has(policy: Policy, name: LabelName | None) -> bool:
        label = _label(policy, name)
        return label is not None and label.vtpm

    without = [r for was, r in zip(before, found, strict=True)
               if has(new.policy, r.label) and not has(old.policy, was.label)]
    if without:
        yield Sequel(
            SequelId.NO_TPM, _vms(without),
            f"{_names(without)} will have no TPM, which `vtpm: true` of the label means, until "
            "the next start", "stop and start them afterwards")


def _label(policy: Policy, name: LabelName | None) -> Label | None:
    return None if name is None else policy.labels.get(name)


def _vms(found: Sequence[Resident]) -> tuple[tuple[int, str], ...]:
    return tuple((r.domain.domid, r.domain.name) for r in found)


def _names(found: Sequence[Resident]) -> str:
    return listed([printable(r.domain.name) for r in found])
