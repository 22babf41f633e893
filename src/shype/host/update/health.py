"""Does the hypervisor now enforce the new policy, on everybody who runs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from shype.host.admission import enforced
from shype.host.agent import Agent
from shype.host.census import residents
from shype.policy.manifest import Manifest
from shype.policy.names import LabelName

#: Labels about which the hypervisor is asked: each question about a pair is a hypercall.
ASKED = 24
#: Differences that are told.
_SHOWN = 5


def problems(
    agent: Agent, binary: bytes, expected: Mapping[int, LabelName]
) -> tuple[str, ...]:
    """What is wrong, in words; nothing if it stands its test.

    The policy is loaded by its digest; every domain carries the label that is ``expected`` of it
    (by domain id); and the hypervisor decides each question as the security server does and as
    the compiled policy says (`shype verify`).
    """
    if not enforced(agent):
        return ("the hypervisor does not have the policy",)
    return (*_labels(agent, expected), *_decisions(agent, binary))


def _labels(agent: Agent, expected: Mapping[int, LabelName]) -> Iterator[str]:
    for resident in residents(agent):
        domain = resident.domain
        wanted = expected.get(domain.domid, resident.label)
        if resident.label is None or resident.label != wanted:
            yield (f"{domain.name} (domain {domain.domid}) carries {domain.context}, and should "
                   f"carry {wanted or 'a label of the policy'}")


def _fewer(agent: Agent) -> Manifest:
    """The manifest with `ASKED` of its labels at most, those of who runs first."""
    runs = {resident.label for resident in residents(agent)}
    names = sorted(agent.manifest.labels, key=lambda name: name not in runs)[:ASKED]
    return replace(
        agent.manifest, labels={name: agent.manifest.labels[name] for name in names})


def _decisions(agent: Agent, binary: bytes) -> Iterator[str]:
    report = agent.hypervisor.verified(agent.server, _fewer(agent), binary)
    if report is None or not report.different:
        return
    told = [f"{d.subject} on {d.target}: {d.what}" for d in report.differences]
    told += [f"{x} on {y}: {operation}" for x, y, operation in
             (row.question for row in report.rows if row.different)]
    yield from told[:_SHOWN]
    if len(told) > _SHOWN:
        yield f"and {len(told) - _SHOWN} more"
